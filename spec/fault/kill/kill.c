/* SPDX-License-Identifier: MIT */
/*
 * kill DIR KILLS SEED WORKERS: so many times, several processes work on a
 * store and one of them is killed: at a point of its code, the n-th time it
 * comes there, or at a random moment. Then
 *
 *   1. the others go on,
 *   2. the reader slots of the dead one are freed,
 *   3. the store checks, and everything acknowledged is there,
 *   4. what the dead one had leased is delivered again, until all is done.
 *
 * In some rounds all of them close and open the store all the time, so that
 * somebody is the first to open it now and then when another is killed. As a
 * control, some rounds have processes that acknowledge a push before it
 * is called; these must be found out, or the run fails.
 */
#include <lmdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../helper/store_files.h"
#include "../actors/actors.h"
#include "../points.h"

enum { PLAYERS = 4, WORKERS_MAX = 64, GO_ON = 30, PATIENCE = 20, REPORTS = 10,
       BOASTS = 20, RESTLESS = 3 /* one round of so many */ };
#define POINT_WAIT 0.3  /* seconds */
#define HEAD_START 0.02

/* ---- what the workers share --------------------------------------------- */

typedef struct totals {
  _Atomic uint64_t kills, at[POINTS], wrong[WRONGS], stuck, slots, kept_slots;
  _Atomic uint64_t crashes; /* leases of the dead that came back */
  _Atomic uint64_t boasts, caught;
  _Atomic int reports;
} totals;

typedef struct round {
  totals *sum;
  model *m;
  uint64_t seed, chance;
  bool boast;
  bool restless; /* everybody opens and closes the store all the time */
  char dir[4096];
  pid_t pids[PLAYERS];
  int victim, point;
  bool found;    /* a reader slot of the victim */
  bool clocks;   /* somebody moves a clock */
  respool *s;    /* of the check */
} round;

static unsigned chance(round *r, unsigned n) {
  uint64_t z = (r->chance += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return (unsigned)((z ^ (z >> 31)) % n);
}

static void say(round *r, const char *what, const char *text) {
  if (r->boast || r->sum->reports++ >= REPORTS) return;
  printf("seed %llu, killed at %s: %s: %s\n", (unsigned long long)r->seed,
         point_name(r->point) ? point_name(r->point) : "random", what, text);
  fflush(stdout);
}

static void report(void *arg, int kind, const char *text) {
  round *r = arg;
  if (r->boast && kind == WRONG_LOST) r->sum->caught++;
  if (!r->boast) r->sum->wrong[kind]++;
  say(r, wrong_name(kind), text);
}

static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- children ----------------------------------------------------------- */

static void play(round *r, int i, const char *kind) {
  actor a = {.m = r->m, .path = r->dir, .kind = kind, .slot = i,
             .seed = r->seed * PLAYERS + (unsigned)i,
             .rounds = r->restless ? 1 : INT32_MAX / 8,
             .boast = r->boast, .restless = r->restless};
  if (i == r->victim) {
    int passes = point_once(r->point) ? 0 : (int)chance(r, 12);
    point_arm(r->point, passes);
  }
  actor_play(&a);
  _exit(EXIT_SUCCESS);
}

/* Two on the shared queue; the others are of different kinds, of which some
   cannot begin anew. */
static const char *kind_of(round *r, int i, int first) {
  if (i < 2 || r->boast || r->restless) return "shared";
  const char *kind = actor_kinds[1 + (first + i * 3) % (ACTORS - 2)];
  r->clocks |= !strcmp(kind, "maintenance");
  return kind;
}

static bool ended(pid_t pid) {
  siginfo_t info = {.si_pid = 0};
  return !waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) &&
         info.si_pid;
}

/* Before the tags run out and the actors end by themselves. */
static bool in_time(const round *r, double until) {
  return seconds() < until && r->m->n_tags < TAGS / 4;
}

/* Every other victim that is to make the store begins before the others come,
   or else they may be first. */
static void give_time(const round *r) {
  double until = seconds() + HEAD_START;
  if (!point_once(r->point) || r->seed % 2) return;
  while (!ended(r->pids[r->victim]) && in_time(r, until)) usleep(100);
}

static void start(round *r) {
  int first = (int)chance(r, ACTORS - 2);
  r->victim = (int)chance(r, PLAYERS);
  r->point = r->boast ? POINT_RAN : (int)chance(r, POINTS);
  for (int n = 0; n < PLAYERS; n++) {
    int i = (r->victim + n) % PLAYERS; /* the victim is the first to come */
    const char *kind = kind_of(r, i, first);
    r->pids[i] = fork();
    if (r->pids[i] == 0) play(r, i, kind);
    if (r->pids[i] < 0) {
      perror("fork");
      exit(EXIT_FAILURE);
    }
    if (n == 0) give_time(r);
  }
}

/* Runs a step in a child of its own; false when it did not end well. */
static bool aside(round *r, void (*step)(round *r)) {
  int status;
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) {
    step(r);
    fflush(stdout);
    _exit(EXIT_SUCCESS);
  }
  return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
         WEXITSTATUS(status) == EXIT_SUCCESS;
}

/* ---- killing ------------------------------------------------------------ */

static bool gone(pid_t pid, int *status, double until) {
  while (waitpid(pid, status, WNOHANG) != pid) {
    if (seconds() > until) return false;
    usleep(100);
  }
  return true;
}

static bool comes_to_point(const round *r, int *status) {
  double until = seconds() + POINT_WAIT;
  while (waitpid(r->pids[r->victim], status, WNOHANG) == 0) {
    if (!in_time(r, until)) return false;
    usleep(100);
  }
  return true;
}

/* A point that the victim never comes to is a random moment after all. */
static void kill_victim(round *r) {
  int status;
  pid_t pid = r->pids[r->victim];
  usleep(chance(r, 12000));
  if (!point_name(r->point) || !comes_to_point(r, &status)) {
    r->point = POINT_RANDOM;
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
  }
  if (!r->boast) {
    r->sum->at[r->point]++;
    r->sum->kills++;
  }
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) return;
  report(r, WRONG_CRASH, "the victim ended by itself");
}

/* ---- 1: the others go on ------------------------------------------------ */

static bool goes_on(const round *r, int i, uint32_t from) {
  double until = seconds() + PATIENCE;
  while (r->m->beats[i] - from < GO_ON && seconds() < until) {
    if (ended(r->pids[i])) return true; /* it will be asked how */
    usleep(100);
  }
  return r->m->beats[i] - from >= GO_ON;
}

static void others_go_on(round *r) {
  uint32_t from[PLAYERS];
  for (int i = 0; i < PLAYERS; i++) from[i] = r->m->beats[i];
  for (int i = 0; i < PLAYERS; i++) {
    if (i == r->victim || goes_on(r, i, from[i])) continue;
    r->sum->stuck++;
    say(r, "stuck", "a process that was not killed");
  }
}

static void stop_others(round *r) {
  r->m->stop = true;
  for (int i = 0; i < PLAYERS; i++) {
    int status = 0;
    if (i == r->victim) continue;
    if (!gone(r->pids[i], &status, seconds() + PATIENCE)) {
      kill(r->pids[i], SIGKILL);
      waitpid(r->pids[i], &status, 0);
      r->sum->stuck++;
      say(r, "stuck", "a process that was asked to end");
    } else if (!WIFEXITED(status) || WEXITSTATUS(status))
      report(r, WRONG_CRASH, "a process that was not killed");
  }
}

/* ---- 2: reader slots ---------------------------------------------------- */

static int find_slot(const char *line, void *arg) {
  round *r = arg;
  if (strtol(line, NULL, 10) == r->pids[r->victim]) r->found = true;
  return 0;
}

/* Exits with 1 when the victim has a slot. */
static void look_for_slot(round *r) {
  MDB_env *e;
  r->found = false;
  if (mdb_env_create(&e) || mdb_env_set_maxdbs(e, 32) ||
      mdb_env_open(e, r->dir, 0, 0600))
    _exit(2);
  mdb_reader_list(e, find_slot, r);
  mdb_env_close(e);
  _exit(r->found);
}

/* Opening a store frees them, and so does maintenance, which would tell an
   actor with a clock of its own another time. */
static void maintain_readers(round *r) {
  respool *s;
  respool_maintenance maintenance = RESPOOL_MAINTENANCE_INIT;
  if (respool_open(r->dir, NULL, &s)) {
    report(r, WRONG_OPEN, respool_error_text());
    return;
  }
  if (!r->clocks && respool_maintain(s, 0, &maintenance))
    report(r, WRONG_AFTER, respool_error_text());
  respool_close(s);
}

static void slots_are_freed(round *r) {
  struct stat st;
  char data[4200];
  snprintf(data, sizeof data, "%s/data.mdb", r->dir);
  if (stat(data, &st)) return; /* it was killed before there was a store? */
  if (!aside(r, look_for_slot)) r->sum->slots++;
  if (!aside(r, maintain_readers))
    report(r, WRONG_CRASH, "maintenance");
  if (aside(r, look_for_slot)) return;
  r->sum->kept_slots++;
  say(r, "slot", "the dead one's is not freed");
}

/* ---- 3 and 4: what is in the store -------------------------------------- */

static int drain(void *arg, const char *name) {
  round *r = arg;
  respool_queue *q;
  respool_queue_stats st = RESPOOL_QUEUE_STATS_INIT;
  respool_take_options o = RESPOOL_TAKE_OPTIONS_INIT;
  respool_outcome done = RESPOOL_OUTCOME_INIT;
  respool_batch *batch = NULL;
  o.items = 50;
  done.kind = RESPOOL_DONE;
  int rc = respool_queue_find(r->s, name, &q);
  if (rc) return rc;
  while (!(rc = respool_take(q, &o, &batch)) && batch) {
    for (size_t i = 0; i < respool_batch_length(batch); i++)
      r->sum->crashes += respool_batch_item(batch, i)->about->crashes;
    respool_batch_mark_rest(batch, &done);
    rc = respool_batch_settle(batch, NULL, NULL);
    respool_batch_free(batch);
    if (rc) break;
  }
  if (!rc) rc = respool_queue_stat(q, &st);
  if (!rc && st.leased + st.ready + st.scheduled + st.retrying)
    report(r, WRONG_AFTER, "a queue that cannot be drained");
  respool_queue_free(q);
  return rc;
}

static void check_store(round *r) {
  respool *s;
  respool_options o = RESPOOL_OPTIONS_INIT;
  o.manual_clock = 1;
  if (respool_open(r->dir, &o, &s)) {
    report(r, WRONG_OPEN, respool_error_text());
    return;
  }
  if (r->m->opened) respool_advance(s, r->m->time - respool_now(s));
  model_check(r->m, s, report, r);
  respool_advance(s, (int64_t)8 * 24 * 3600 * 1000);
  r->s = s;
  if (respool_queues(s, drain, r))
    report(r, WRONG_AFTER, respool_error_text());
  model_use(s, report, r);
  respool_close(s);
}

/* ---- all of it ---------------------------------------------------------- */

static void clean(const round *r) {
  remove_store_files(r->dir);
  rmdir(r->dir);
}

static void play_round(round *r, uint64_t seed, bool boast) {
  r->seed = r->chance = seed;
  r->boast = boast;
  r->restless = !boast && chance(r, RESTLESS) == 0;
  r->clocks = false;
  model_reset(r->m);
  start(r);
  kill_victim(r);
  others_go_on(r);
  slots_are_freed(r);
  stop_others(r);
  if (!aside(r, check_store)) report(r, WRONG_CRASH, "the check");
  clean(r);
}

static void work(totals *sum, const char *base, int worker, int kills,
                 uint64_t seed) {
  round r = {.sum = sum};
  r.m = model_new();
  snprintf(r.dir, sizeof r.dir, "%s/%d", base, worker);
  for (int i = 0; i < kills; i++) play_round(&r, seed + (unsigned)i, false);
  for (int i = 0; i < BOASTS; i++) play_round(&r, seed + (unsigned)i, true);
  sum->boasts += BOASTS;
  fflush(stdout);
  _exit(EXIT_SUCCESS);
}

static void wait_for_all(const totals *sum, int workers, int kills) {
  int status;
  while (workers > 0) {
    pid_t pid = waitpid(-1, &status, WNOHANG);
    if (pid < 0) return;
    if (pid > 0) {
      workers--;
      if (!WIFEXITED(status) || WEXITSTATUS(status)) exit(EXIT_FAILURE);
      continue;
    }
    usleep(100000);
    if (isatty(STDERR_FILENO))
      fprintf(stderr, "\r%llu of %d kills ", (unsigned long long)sum->kills,
              kills);
  }
}

/* Points that no victim has ever come to are not points. */
static bool missed_points(const totals *sum) {
  for (int i = 0; i < POINTS; i++)
    if (!sum->at[i] && sum->kills >= 300) return true;
  return false;
}

static int judge(const totals *sum) {
  uint64_t bad = sum->stuck + sum->kept_slots;
  printf("kills    %8llu,", (unsigned long long)sum->kills);
  for (int i = 0; i < POINTS; i++)
    printf(" %s %llu", point_name(i) ? point_name(i) : "random",
           (unsigned long long)sum->at[i]);
  printf("\n         %llu dead readers freed, %llu leases came back:",
         (unsigned long long)sum->slots, (unsigned long long)sum->crashes);
  for (int i = 0; i < WRONGS; i++) {
    bad += sum->wrong[i];
    if (sum->wrong[i])
      printf(" %s %llu", wrong_name(i), (unsigned long long)sum->wrong[i]);
  }
  printf("%s\n", bad ? "" : " nothing wrong");
  printf("boasts   %8llu, items found missing %llu\n",
         (unsigned long long)sum->boasts, (unsigned long long)sum->caught);
  return bad || missed_points(sum) || !sum->caught || !sum->slots ||
         !sum->crashes;
}

int main(int argc, char **argv) {
  if (argc != 5) {
    fprintf(stderr, "usage: kill DIR KILLS SEED WORKERS\n");
    return EXIT_FAILURE;
  }
  int kills = atoi(argv[2]), workers = atoi(argv[4]);
  uint64_t seed = strtoull(argv[3], NULL, 10);
  if (workers < 1 || workers > WORKERS_MAX) workers = 1;
  totals *sum = mmap(NULL, sizeof *sum, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (sum == MAP_FAILED) {
    perror("mmap");
    return EXIT_FAILURE;
  }
  for (int i = 0; i < workers; i++) {
    int mine = kills / workers + (i < kills % workers);
    fflush(stdout);
    if (fork() == 0)
      work(sum, argv[1], i, mine, seed + (unsigned)i * 1000003u);
  }
  wait_for_all(sum, workers, kills);
  return judge(sum) ? EXIT_FAILURE : EXIT_SUCCESS;
}

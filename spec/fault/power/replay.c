/* SPDX-License-Identifier: MIT */
/*
 * replay LOG DIR STATES WORKERS HOPE: rebuilds the disk of a recorded run as
 * power cuts may have left it, opens the store on each, and holds it against
 * what was acknowledged by then. A moment is right before each event that
 * changes what a cut may leave; of each, several states are tried, until so
 * many different ones were. HOPE is what has to come out, or the run fails:
 *
 *   sound    nothing is wrong
 *   lying    the disk ignores every sync: acknowledged items must be missing,
 *            or the store be damaged
 *   relaxed  verbs returned too early: acknowledged items must be missing,
 *            and nothing else may be wrong
 *
 * Children try the states, a stretch of moments each; one that dies has
 * found something, and the next goes on after it.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../actors/model.h"
#include "disk.h"
#include "pages.h"

enum { STRETCH = 24, REPORTS = 10, WORKERS_MAX = 64 };
#define PATIENCE 60 /* seconds */
#define TABLE ((size_t)1 << 22) /* hashes of states; a power of two */

/* ---- what all processes share ------------------------------------------- */

typedef struct spot {
  uint64_t moment;
  uint32_t pass, try;
} spot;

typedef struct totals {
  _Atomic uint64_t distinct, tried, wrong[WRONGS];
  _Atomic uint64_t seen[TABLE];
  _Atomic int reports;
  spot at[WORKERS_MAX]; /* where each worker is */
} totals;

typedef struct replay {
  const uint8_t *log;
  size_t size;
  uint32_t *twins; /* the tag of each item among the twins, by id */
  uint64_t moments;
  uint64_t states;
  int workers;
  bool lying;
  const char *hope;
  totals *sum;
  /* of one worker */
  int worker;
  char dir[4096];
  disk *disk;
  model *model;
  uint64_t moment;
  uint32_t pass, tries;
} replay;

static void *must_have(void *p) {
  if (p && p != MAP_FAILED) return p;
  perror("memory");
  exit(EXIT_FAILURE);
}

/* True when this was not there before. Hashes are as good as the states. */
static bool note_hash(totals *t, uint64_t hash) {
  if (!hash) hash = 1;
  for (size_t i = hash, n = 0; n < TABLE; i++, n++) {
    uint64_t was = 0;
    _Atomic uint64_t *slot = &t->seen[i & (TABLE - 1)];
    if (atomic_compare_exchange_strong(slot, &was, hash)) return true;
    if (was == hash) return false;
  }
  return false;
}

/* ---- the log ------------------------------------------------------------ */

/* The event at `*at`, which moves on; false at the end. */
static bool read_event(const replay *r, size_t *at, event *e,
                       const uint8_t **bytes) {
  if (*at + sizeof *e > r->size) return false;
  memcpy(e, r->log + *at, sizeof *e);
  *at += sizeof *e;
  *bytes = r->log + *at;
  if (e->kind == EV_WRITE) *at += e->size;
  return true;
}

static bool changes_disk(const event *e) {
  return e->kind < EV_OPENED && e->kind != EV_SYNC_BEGIN &&
         e->kind != EV_DIR_BEGIN;
}

/* Who was told that an item is there did not know its tag. */
static void survey(replay *r) {
  event e;
  const uint8_t *bytes;
  bool *twin = must_have(calloc(TAGS, sizeof *twin));
  r->twins = must_have(calloc(TAGS, sizeof *r->twins));
  for (size_t at = 0; read_event(r, &at, &e, &bytes);) {
    if (changes_disk(&e)) r->moments++;
    if (e.tag >= TAGS || e.id >= TAGS) continue;
    if (e.kind == EV_BEGIN && e.stage.place == TWINS) twin[e.tag] = true;
    if (e.kind == EV_ACK && e.id && twin[e.tag]) r->twins[e.id] = e.tag;
  }
  r->moments++; /* the end */
  free(twin);
}

static void play_held(const replay *r, const event *e) {
  if (e->id >= TAGS) return;
  event ack = {.kind = EV_ACK, .tag = r->twins[e->id], .index = 1};
  model_play(r->model, &ack);
}

static void play(const replay *r, const event *e, const uint8_t *bytes) {
  disk_play(r->disk, e, bytes, r->lying && r->model->opened);
  if (e->kind == EV_HELD)
    play_held(r, e);
  else
    model_play(r->model, e);
}

/* ---- one state ---------------------------------------------------------- */

static void report(void *arg, int kind, const char *text) {
  replay *r = arg;
  const spot *at = &r->sum->at[r->worker];
  r->sum->wrong[kind]++;
  if (!strcmp(r->hope, "lying") || (kind == WRONG_LOST &&
      !strcmp(r->hope, "relaxed")))
    return;
  if (r->sum->reports++ >= REPORTS) return;
  printf("moment %llu, pass %u, state %u: %s: %s\n",
         (unsigned long long)at->moment, at->pass, at->try,
         wrong_name(kind), text);
}

static void check_pages(replay *r) {
  char text[100];
  if (!pages_add_up(r->dir, text, sizeof text)) report(r, WRONG_PAGES, text);
}

static void check_store(replay *r) {
  respool *s;
  respool_options o = RESPOOL_OPTIONS_INIT;
  o.manual_clock = 1;
  if (respool_open(r->dir, &o, &s)) {
    report(r, WRONG_OPEN, respool_error_text());
    return;
  }
  if (r->model->opened)
    respool_advance(s, r->model->time - respool_now(s));
  model_check(r->model, s, report, r);
  model_use(s, report, r);
  respool_close(s);
  check_pages(r);
}

/* Memory is gone, and the journal of the state before. */
static void clear_journal(const char *dir) {
  static const char *const files[] = {"control", "journal", "journal.new"};
  char path[4200];
  for (int i = 0; i < 3; i++) {
    snprintf(path, sizeof path, "%s/%s", dir, files[i]);
    unlink(path);
  }
}

/* A state that was tried with these acknowledgements is passed over; one that
   was tried before with fewer is tried again, but does not count. One that is
   not done with in time ends the child, by SIGALRM. */
static void try_state(replay *r, uint64_t acks) {
  uint64_t seed = (r->moment * 1000003 + r->sum->at[r->worker].try) * 31 +
                  r->pass * UINT64_C(0x9e3779b97f4a7c15);
  uint64_t hash = disk_cut(r->disk, seed);
  if (!note_hash(r->sum, hash ^ (acks + 1) * UINT64_C(0xff51afd7ed558ccd)))
    return;
  if (note_hash(r->sum, hash)) r->sum->distinct++;
  r->sum->tried++;
  clear_journal(r->dir);
  disk_write(r->disk, r->dir);
  alarm(PATIENCE);
  check_store(r);
  alarm(0);
}

/* ---- stretches of moments ----------------------------------------------- */

/* How many states of this moment are worth trying. There are few moments while
   the store is being made, so of each there are many. */
static uint32_t tries_now(const replay *r) {
  uint64_t n = (uint64_t)disk_pending(r->disk) * 2 + 1;
  uint32_t most = r->model->opened ? r->tries : r->tries + 200;
  return n < most ? (uint32_t)n : most;
}

static void try_moment(replay *r, spot from, uint64_t acks) {
  spot *at = &r->sum->at[r->worker];
  uint32_t n = tries_now(r);
  *at = (spot){r->moment, r->pass, 0};
  for (; at->try < n; at->try++)
    if (r->moment > from.moment || at->try >= from.try) try_state(r, acks);
}

static bool enough(const replay *r) {
  return r->sum->distinct >= r->states;
}

/* Plays events until `moments` have passed; as a child, tries them from a
   spot on. False at the end of the log. */
static bool stretch(replay *r, size_t *at, bool child, spot from) {
  event e;
  const uint8_t *bytes;
  static uint64_t acks;
  uint64_t end = r->moment + STRETCH;
  bool more = true;
  while (more && r->moment < end) {
    more = read_event(r, at, &e, &bytes);
    if (!more || changes_disk(&e)) {
      if (child && r->moment >= from.moment && !enough(r) &&
          r->moment % (unsigned)r->workers == (unsigned)r->worker)
        try_moment(r, from, acks);
      r->moment++;
    }
    if (!more) break;
    acks += e.kind == EV_ACK || e.kind == EV_HELD;
    play(r, &e, bytes);
  }
  return more;
}

/* A child tries the stretch; again after what it died of. */
static void try_stretch(replay *r, size_t at) {
  spot from = {r->moment, r->pass, 0};
  for (;;) {
    int status = 0;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
      stretch(r, &at, true, from);
      fflush(stdout);
      _exit(EXIT_SUCCESS);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid) {
      perror("fork");
      exit(EXIT_FAILURE);
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS) return;
    char text[64];
    snprintf(text, sizeof text, "the process ended with %#x", status);
    report(r, WRONG_CRASH, text);
    from = r->sum->at[r->worker];
    from.try++;
  }
}

static void one_pass(replay *r) {
  size_t at = 0;
  bool more = true;
  disk_clear(r->dir);
  r->disk = disk_new();
  r->model = must_have(calloc(1, sizeof *r->model));
  r->moment = 0;
  while (more && !enough(r)) {
    try_stretch(r, at);
    more = stretch(r, &at, false, (spot){0, 0, 0});
  }
}

static void work(replay *r, int worker) {
  r->worker = worker;
  snprintf(r->dir + strlen(r->dir), 16, "/%d", worker);
  mkdir(r->dir, 0700);
  uint64_t last = UINT64_MAX;
  for (r->pass = 0; !enough(r) && r->sum->distinct != last; r->pass++) {
    last = r->sum->distinct;
    one_pass(r);
  }
}

/* ---- all of it ---------------------------------------------------------- */

static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void progress(const replay *r, double from) {
  static double said;
  if (!isatty(STDERR_FILENO) || seconds() - said < 1) return;
  said = seconds();
  fprintf(stderr, "\r%llu of %llu states, %.0f s ",
          (unsigned long long)r->sum->distinct,
          (unsigned long long)r->states, said - from);
}

static void wait_for_all(const replay *r, double from) {
  int status;
  for (int left = r->workers; left > 0;) {
    pid_t pid = waitpid(-1, &status, WNOHANG);
    if (pid < 0) break;
    if (pid == 0) {
      usleep(50000);
      progress(r, from);
      continue;
    }
    left--;
    if (!WIFEXITED(status) || WEXITSTATUS(status)) exit(EXIT_FAILURE);
  }
}

static void run_workers(replay *r) {
  double from = seconds();
  for (int i = 0; i < r->workers; i++) {
    fflush(stdout);
    if (fork() == 0) {
      work(r, i);
      fflush(stdout);
      _exit(EXIT_SUCCESS);
    }
  }
  wait_for_all(r, from);
}

/* 0 when what came out is what was hoped for. */
static int judge(const replay *r) {
  uint64_t lost = r->sum->wrong[WRONG_LOST], other = 0;
  for (int i = 0; i < WRONGS; i++)
    if (i != WRONG_LOST) other += r->sum->wrong[i];
  printf("%-8s %8llu states at %llu moments:", r->hope,
         (unsigned long long)r->sum->distinct,
         (unsigned long long)r->moments);
  for (int i = 0; i < WRONGS; i++)
    if (r->sum->wrong[i])
      printf(" %s %llu", wrong_name(i), (unsigned long long)r->sum->wrong[i]);
  printf("%s\n", lost + other ? "" : " nothing wrong");
  if (!strcmp(r->hope, "lying")) return lost + other == 0;
  if (!strcmp(r->hope, "relaxed")) return lost == 0 || other > 0;
  return lost + other > 0 || !enough(r);
}

static void map_log(replay *r, const char *path) {
  struct stat st;
  int fd = open(path, O_RDONLY);
  if (fd < 0 || fstat(fd, &st)) {
    perror(path);
    exit(EXIT_FAILURE);
  }
  r->size = (size_t)st.st_size;
  r->log = must_have(mmap(NULL, r->size, PROT_READ, MAP_PRIVATE, fd, 0));
  close(fd);
}

int main(int argc, char **argv) {
  replay r = {.size = 0};
  if (argc != 6) {
    fprintf(stderr, "usage: replay LOG DIR STATES WORKERS HOPE\n");
    return EXIT_FAILURE;
  }
  map_log(&r, argv[1]);
  snprintf(r.dir, sizeof r.dir - 16, "%s", argv[2]);
  r.states = strtoull(argv[3], NULL, 10);
  r.workers = atoi(argv[4]);
  if (r.workers < 1 || r.workers > WORKERS_MAX) r.workers = 1;
  r.hope = argv[5];
  r.lying = !strcmp(r.hope, "lying");
  r.sum = must_have(mmap(NULL, sizeof *r.sum, PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  survey(&r);
  r.tries = (uint32_t)(r.states / r.moments) + 2;
  run_workers(&r);
  return judge(&r) ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* SPDX-License-Identifier: MIT */
#include "crowd.h"

#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "respool.h"

enum { REPORTS = 8, MANY = 10000 /* kills, in which every point is met */ };

/* What all processes share. */
typedef struct common {
  _Atomic long wrong;
  _Atomic long at[CROWD_POINTS]; /* kills at each point */
  atomic_bool stop;              /* those that are left end */
} common;

static common *all;
static const char *rule; /* that is broken; NULL: none */

static void *share(size_t size) {
  void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) exit(EXIT_FAILURE);
  return p;
}

void *crowd_begin(crowd *c, int argc, char **argv, size_t shared) {
  if (argc < 5) {
    fprintf(stderr, "usage: %s DIR KILLS SEED PROCESSES [RULE]\n", argv[0]);
    exit(EXIT_FAILURE);
  }
  c->wanted = atol(argv[2]);
  c->seed = (unsigned)atoi(argv[3]);
  c->n = atoi(argv[4]);
  rule = argc > 5 ? argv[5] : NULL;
  if (c->n < 1 || c->n > CROWD_MOST || c->n_points > CROWD_POINTS)
    exit(EXIT_FAILURE);
  srand(c->seed);
  all = share(sizeof *all);
  return share(shared);
}

/* ---- what is wrong ------------------------------------------------------- */

void bad(const char *form, ...) {
  va_list args;
  if (all->wrong++ >= REPORTS || (rule && !getenv("SAY"))) return;
  va_start(args, form);
  vprintf(form, args);
  va_end(args);
  putchar('\n');
  fflush(stdout);
}

bool all_is_well(void) {
  return !all->wrong;
}

int tell_bad(void *arg, const char *text) {
  (void)arg;
  bad("%s", text);
  return 0;
}

void must(const char *verb, int rc) {
  if (!rc) return;
  bad("%s: %d: %s", verb, rc, respool_error_text());
  _exit(EXIT_FAILURE);
}

bool breaks(const char *name) {
  return rule && !strcmp(rule, name);
}

/* ---- processes ----------------------------------------------------------- */

void crowd_arm(const crowd *c, int n) {
  int i = rand() % n;
  point_arm_name(c->points[i].name, rand() % (c->points[i].passes + 1));
  point_count(&all->at[i]);
}

bool crowd_goes_on(void) {
  alarm(CROWD_PATIENCE);
  return !all->stop;
}

static void start(crowd *c, int i, bool first) {
  fflush(stdout);
  unsigned seed = ++c->seed * 7919;
  c->pid[i] = fork();
  if (c->pid[i]) return;
  srand(seed);
  alarm(CROWD_PATIENCE);
  point_break(rule);
  c->act(c, first);
  _exit(EXIT_SUCCESS);
}

static void ended(crowd *c, int i, int status) {
  c->pid[i] = 0;
  if (WIFEXITED(status) && WEXITSTATUS(status)) bad("a process gave up");
  if (!WIFSIGNALED(status)) return;
  c->kills++;
  if (WTERMSIG(status) == SIGALRM) bad("a process hung");
  else if (WTERMSIG(status) != SIGKILL) bad("signal %d", WTERMSIG(status));
}

static void reap(crowd *c, bool wait) {
  int status;
  for (int i = 0; i < c->n; i++)
    if (c->pid[i] && waitpid(c->pid[i], &status, wait ? 0 : WNOHANG) > 0)
      ended(c, i, status);
}

bool crowd_wants(const crowd *c) {
  return c->kills < c->wanted && all_is_well();
}

void crowd_round(crowd *c) {
  long until = c->kills + 10 + rand() % c->more;
  time_t began = time(NULL);
  c->rounds++;
  all->stop = false;
  for (int i = 0; i < c->n; i++) start(c, i, true);
  while (c->kills < until && time(NULL) - began < 20 && all_is_well()) {
    for (int i = 0; i < c->n; i++)
      if (!c->pid[i]) start(c, i, false);
    usleep((useconds_t)(rand() % 10000));
    int victim = rand() % c->n;
    if (rand() % c->odds == 0 && c->pid[victim])
      kill(c->pid[victim], SIGKILL);
    reap(c, false);
  }
  bool none = rand() % 2;
  for (int i = 0; i < c->n && none; i++)
    if (c->pid[i]) kill(c->pid[i], SIGKILL);
  all->stop = true;
  reap(c, true);
}

void crowd_look(const crowd *c, void (*check)(void)) {
  int status;
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) {
    srand(c->seed + 1);
    alarm(2 * CROWD_PATIENCE);
    check();
    _exit(EXIT_SUCCESS);
  }
  waitpid(pid, &status, 0);
  if (status) bad("the look at the end had status %#x", (unsigned)status);
}

/* ---- the end ------------------------------------------------------------- */

int crowd_end(const crowd *c, const char *form, ...) {
  va_list args;
  long killed = 0, hit = 0;
  for (int i = 0; i < c->n_points; i++) {
    killed += all->at[i];
    hit += all->at[i] > 0;
    if (!all->at[i] && c->kills > MANY)
      bad("nobody was ever killed at '%s'", c->points[i].name);
  }
  printf("%-8s %ld kills (%ld at %ld of %d points), %ld rounds, ", c->name,
         c->kills, killed, hit, c->n_points, c->rounds);
  va_start(args, form);
  vprintf(form, args);
  va_end(args);
  printf(": %s\n", all_is_well() ? "nothing wrong" : "WRONG");
  for (int i = 0; i < c->n_points && getenv("POINTS"); i++)
    printf("  %6ld %s\n", all->at[i], c->points[i].name);
  return all_is_well() == !rule ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* SPDX-License-Identifier: MIT */
#include "crowd.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

void *crowd_begin(crowd *c, int argc, char **argv, size_t shared) {
  if (argc < 5) {
    fprintf(stderr, "usage: %s DIR KILLS SEED PROCESSES [RULE]\n", argv[0]);
    exit(EXIT_FAILURE);
  }
  c->wanted = atol(argv[2]);
  c->seed = (unsigned)atoi(argv[3]);
  c->n = atoi(argv[4]);
  srand(c->seed);
  void *memory = mmap(NULL, shared, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (c->n < 1 || c->n > CROWD_MOST || memory == MAP_FAILED)
    exit(EXIT_FAILURE);
  return memory;
}

static void start(crowd *c, int i, bool first) {
  fflush(stdout);
  unsigned seed = ++c->seed * 7919;
  c->pid[i] = fork();
  if (c->pid[i] == 0) c->act(seed, first);
}

static void ended(crowd *c, int i, int status) {
  c->pid[i] = 0;
  if (WIFEXITED(status) && WEXITSTATUS(status) && !c->gives_up)
    c->bad("a process gave up");
  if (!WIFSIGNALED(status)) return;
  c->kills++;
  if (WTERMSIG(status) == SIGALRM) c->bad("a process hung");
  else if (WTERMSIG(status) != SIGKILL) c->bad("signal %d", WTERMSIG(status));
}

static void reap(crowd *c, bool wait) {
  int status;
  for (int i = 0; i < c->n; i++)
    if (c->pid[i] && waitpid(c->pid[i], &status, wait ? 0 : WNOHANG) > 0)
      ended(c, i, status);
}

void crowd_round(crowd *c) {
  long until = c->kills + 10 + rand() % c->more;
  time_t began = time(NULL);
  *c->stop = 0;
  for (int i = 0; i < c->n; i++) start(c, i, true);
  while (c->kills < until && time(NULL) - began < 20 && !*c->wrong) {
    for (int i = 0; i < c->n; i++)
      if (!c->pid[i]) start(c, i, false);
    usleep((useconds_t)(rand() % 10000));
    int victim = rand() % c->n;
    if (rand() % c->odds == 0 && c->pid[victim])
      kill(c->pid[victim], SIGKILL);
    reap(c, false);
  }
  bool all = rand() % 2;
  for (int i = 0; i < c->n && all; i++)
    if (c->pid[i]) kill(c->pid[i], SIGKILL);
  *c->stop = 1;
  reap(c, true);
}

void crowd_look(const crowd *c, void (*check)(void)) {
  int status;
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) {
    srand(c->seed + 1);
    check();
  }
  waitpid(pid, &status, 0);
  if (status) c->bad("the look at the end had status %#x", (unsigned)status);
}

/* SPDX-License-Identifier: MIT */
/*
 * rate STORE SECONDS [RULE]: four processes take from one queue with a rate for
 * so long, all they can get. Together they get at most the burst and what the
 * rate gives in the time from before the queue was made until after the last
 * take, and at least 95 % of the rate: the burst is what may make good that
 * the machine was slow for a second or two. With the RULE "takes spend tokens"
 * broken they must be found to get more: there the rate is so small that this
 * shows however slow the machine is.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../points.h"
#include "respool.h"

enum { TAKERS = 4, GROUP = 7, SPARE = 2000, SLICE = 200 /* ms of a wait */ };

static int rate = 200, burst = 400;

static void must(const char *verb, int rc) {
  if (!rc) return;
  fprintf(stderr, "rate: %s: %s\n", verb, respool_error_text());
  exit(EXIT_FAILURE);
}

static int64_t now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Of all takers, in memory that they share. */
typedef struct presence {
  _Atomic int64_t last; /* a take's end */
  _Atomic int64_t away; /* ms without one, beyond what the burst makes good */
} presence;

static presence *takers;

static void note_take(void) {
  int64_t now = now_ms(), gap = now - atomic_exchange(&takers->last, now);
  int64_t covered = (int64_t)burst * 1000 / rate;
  if (gap > covered) atomic_fetch_add(&takers->away, gap - covered);
}

static respool *store;

static respool_queue *open_queue(const char *path) {
  respool_queue_options o = RESPOOL_QUEUE_OPTIONS_INIT;
  respool_queue *q;
  o.rate_items = rate;
  o.rate_per = 1000;
  o.rate_burst = burst;
  must("open", respool_open(path, NULL, &store));
  must("queue", respool_queue_open(store, "rated", &o, &q));
  return q;
}

static void fill(respool_queue *q, int n) {
  enum { PAGE = 500 };
  static respool_payload p[PAGE];
  for (int i = 0; i < PAGE; i++) p[i].body = (respool_bytes){"item", 4};
  for (; n > 0; n -= PAGE) must("push", respool_push(q, p, PAGE, NULL, NULL));
}

static _Noreturn void take_all(const char *path, int64_t until) {
  respool_queue *q = open_queue(path);
  respool_take_options t = RESPOOL_TAKE_OPTIONS_INIT;
  respool_outcome done = RESPOOL_OUTCOME_INIT;
  respool_batch *b;
  t.items = GROUP;
  t.wait = SLICE;
  done.kind = RESPOOL_DONE;
  while (now_ms() < until) {
    must("take", respool_take(q, &t, &b));
    note_take();
    if (!b) continue;
    must("mark", respool_batch_mark_all(b, &done));
    must("settle", respool_batch_settle(b, NULL, NULL));
    respool_batch_free(b);
  }
  respool_queue_free(q);
  respool_close(store);
  _exit(EXIT_SUCCESS);
}

/* Each is a process that has opened nothing before. */
static bool play(const char *path, int64_t until) {
  pid_t pids[TAKERS];
  int status;
  bool well = true;
  for (int i = 0; i < TAKERS; i++) {
    pids[i] = fork();
    if (pids[i] == 0) take_all(path, until);
  }
  for (int i = 0; i < TAKERS; i++)
    well &= waitpid(pids[i], &status, 0) == pids[i] && !status;
  return well;
}

/* In a process of its own, as children must not inherit a store. */
static void prepare(const char *path, int seconds) {
  int status = 1;
  pid_t pid = fork();
  if (pid == 0) {
    respool_queue *q = open_queue(path);
    fill(q, rate * seconds + burst + SPARE);
    respool_queue_free(q);
    respool_close(store);
    _exit(EXIT_SUCCESS);
  }
  if (waitpid(pid, &status, 0) != pid || status) exit(EXIT_FAILURE);
}

int main(int argc, char **argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: rate STORE SECONDS [RULE]\n");
    return EXIT_FAILURE;
  }
  int seconds = atoi(argv[2]);
  respool_queue_stats st = RESPOOL_QUEUE_STATS_INIT;
  point_break(argc > 3 ? argv[3] : NULL);
  if (argc > 3) rate = burst = 1;
  takers = mmap(NULL, sizeof *takers, PROT_READ | PROT_WRITE,
                MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (takers == MAP_FAILED) return EXIT_FAILURE;
  prepare(argv[1], seconds);
  int64_t began = now_ms();
  takers->last = began;
  if (!play(argv[1], began + seconds * 1000)) return EXIT_FAILURE;
  respool_queue *q = open_queue(argv[1]);
  must("stat", respool_queue_stat(q, &st));
  int64_t took = now_ms() - began, got = (int64_t)st.delivered;
  int64_t there = seconds * 1000 - takers->away;
  int64_t most = burst + took * rate / 1000, least = rate * there * 95 / 100000;
  bool good = got <= most && got >= least;
  printf("rate     %d processes took %ld in %.1f s, at least %ld, at most %ld: "
         "%s\n", TAKERS, (long)got, (double)took / 1000, (long)least,
         (long)most, good ? "nothing wrong" : "WRONG");
  respool_queue_free(q);
  respool_close(store);
  return (argc > 3 ? got > most : good) ? EXIT_SUCCESS : EXIT_FAILURE;
}

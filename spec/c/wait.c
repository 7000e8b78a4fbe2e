/* SPDX-License-Identifier: MIT */
/*
 * Waiting inside one process: a take that waits wakes at once when another
 * thread pushes, on another handle as well, and costs no CPU until then. The
 * latencies are medians, so that one slow moment of the machine does not
 * decide; looking from time to time, as between processes, would show as a
 * median of 25 ms.
 */
#include <pthread.h>
#include <sys/resource.h>
#include <time.h>

#include "holds.h"

enum {
  ROUNDS = 9,
  IDLE = 120,   /* ms; by then a look comes every 50 ms only */
  AT_ONCE = 12  /* ms, the median at most */
};

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static double cpu_ms(void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e3 +
         (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e3;
}

static respool_batch *take_within(respool_queue *q, int64_t wait) {
  respool_take_options o = RESPOOL_TAKE_OPTIONS_INIT;
  respool_batch *batch = NULL;
  o.wait = wait;
  WORKS(respool_take(q, &o, &batch));
  return batch;
}

static void finish(respool_batch *batch) {
  respool_outcome done = RESPOOL_OUTCOME_INIT;
  done.kind = RESPOOL_DONE;
  WORKS(respool_batch_mark_rest(batch, &done));
  WORKS(respool_batch_settle(batch, NULL, NULL));
  respool_batch_free(batch);
}

typedef struct waiter {
  respool_queue *q;
  double woken; /* when */
} waiter;

static void *wait_for_one(void *arg) {
  waiter *w = arg;
  respool_batch *batch = take_within(w->q, 20000);
  w->woken = now_ms();
  HOLDS(respool_batch_length(batch) == 1);
  if (batch) finish(batch);
  return NULL;
}

/* From the push to the end of the take, in ms. */
static double latency(respool_queue *from, respool_queue *to, int round) {
  respool_payload item = {.body = {"x", 1}};
  waiter w = {to, 0};
  struct timespec idle = {0, (IDLE + round * 7) * 1000000L};
  pthread_t thread;
  pthread_create(&thread, NULL, wait_for_one, &w);
  nanosleep(&idle, NULL);
  double pushed = now_ms();
  WORKS(respool_push(from, &item, 1, NULL, NULL));
  pthread_join(thread, NULL);
  return w.woken - pushed;
}

static int by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void a_push_wakes_at_once(respool_queue *from, respool_queue *to) {
  double ms[ROUNDS];
  for (int i = 0; i < ROUNDS; i++) ms[i] = latency(from, to, i);
  qsort(ms, ROUNDS, sizeof *ms, by_size);
  HOLDS(ms[ROUNDS / 2] < AT_ONCE);
  HOLDS(ms[ROUNDS - 1] < 5000);
}

static void waiting_costs_nothing(respool_queue *q) {
  double began = now_ms(), used = cpu_ms();
  HOLDS(!take_within(q, 1000));
  HOLDS(now_ms() - began >= 999); /* clocks are cut to ms */
  HOLDS(cpu_ms() - used < 50);
}

int main(void) {
  const char *dir = fresh_dir();
  respool *s = NULL, *other = NULL;
  respool_queue *q = NULL, *same = NULL;
  respool_options o = RESPOOL_OPTIONS_INIT;
  o.sync = RESPOOL_SYNC_RELAXED; /* the disk's time is not measured */
  WORKS(respool_open(dir, &o, &s));
  WORKS(respool_open(dir, &o, &other));
  WORKS(respool_queue_open(s, "q", NULL, &q));
  WORKS(respool_queue_open(other, "q", NULL, &same));
  if (!wrong) {
    CHECK(a_push_wakes_at_once(same, q));
    CHECK(waiting_costs_nothing(q));
  }
  respool_queue_free(q);
  respool_queue_free(same);
  respool_close(s);
  respool_close(other);
  remove_dir(dir);
  return exit_status();
}

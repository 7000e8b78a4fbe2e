/* SPDX-License-Identifier: MIT */
/*
 * Waiting inside one process: a take that waits wakes when another thread
 * pushes, on another handle as well, and hardly looks until then. For one that
 * must be woken no time passes: its waits have no end of their own.
 */
#include <dlfcn.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <time.h>

#include "holds.h"

enum { ROUNDS = 9 };

static _Thread_local bool no_time_passes;
static atomic_int waits; /* begun, of all threads */

/* Takes wait in the control block of the journal. */
long syscall(long number, ...) {
  static long (*next)(long, ...);
  long a[6];
  va_list args;
  va_start(args, number);
  for (int i = 0; i < 6; i++) a[i] = va_arg(args, long);
  va_end(args);
  if (!next) *(void **)&next = dlsym(RTLD_NEXT, "syscall");
  if (number == SYS_futex && a[1] == FUTEX_WAIT_BITSET) {
    waits++;
    if (no_time_passes) a[3] = 0;
  }
  return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
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

static void *wait_for_one(void *arg) {
  no_time_passes = true;
  respool_batch *batch = take_within(arg, 60000);
  HOLDS(respool_batch_length(batch) == 1);
  if (batch) finish(batch);
  return NULL;
}

static void a_push_wakes(respool_queue *from, respool_queue *to) {
  respool_payload item = {.body = {"x", 1}};
  alarm(120); /* one that is not woken waits for ever */
  for (int i = 0; i < ROUNDS; i++) {
    pthread_t thread;
    int before = waits;
    pthread_create(&thread, NULL, wait_for_one, to);
    while (waits == before) usleep(1000); /* it waits already */
    WORKS(respool_push(from, &item, 1, NULL, NULL));
    pthread_join(thread, NULL);
  }
  alarm(0);
}

static void waiting_looks_ever_more_rarely(respool_queue *q) {
  double began = now_ms();
  int before = waits;
  HOLDS(!take_within(q, 1000));
  HOLDS(now_ms() - began >= 999); /* clocks are cut to ms */
  HOLDS(waits - before < 50);
}

int main(void) {
  const char *dir = fresh_dir();
  respool *s = NULL, *other = NULL;
  respool_queue *q = NULL, *same = NULL;
  respool_options o = RESPOOL_OPTIONS_INIT;
  o.sync = RESPOOL_SYNC_RELAXED;
  WORKS(respool_open(dir, &o, &s));
  WORKS(respool_open(dir, &o, &other));
  WORKS(respool_queue_open(s, "q", NULL, &q));
  WORKS(respool_queue_open(other, "q", NULL, &same));
  if (!wrong) {
    CHECK(a_push_wakes(same, q));
    CHECK(waiting_looks_ever_more_rarely(q));
  }
  respool_queue_free(q);
  respool_queue_free(same);
  respool_close(s);
  respool_close(other);
  remove_dir(dir);
  return exit_status();
}

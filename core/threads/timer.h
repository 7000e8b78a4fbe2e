/* SPDX-License-Identifier: MIT */
/*
 * Timers: leases to renew, buffers to flush. One thread a store runs them; the
 * first timer starts it, and it ends some time after the last. With a manual
 * clock there is no thread: moving the clock stops at the time of each timer
 * and runs it.
 */
#ifndef TIMER_H
#define TIMER_H

#include <pthread.h>
#include <stdbool.h>

#include "base/clock.h"

#define TIMER_NEVER INT64_MAX

/* Embedded at the head of the object it serves. `run` is called without the
   lock, by one thread at a time; it returns the time to run again. */
typedef struct timer {
  struct timer *next;
  int64_t at; /* by timers_now */
  int64_t (*run)(struct timer *self);
  bool busy;
  bool moved; /* armed while it ran */
  void (*free)(struct timer *self); /* of one that may be discarded */
  bool discarded;                   /* while it ran */
} timer;

typedef struct timers {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  const struct clock *clock;
  timer *list;
  int64_t wake_at; /* the thread sleeps until then */
  pthread_t thread;
  bool started;    /* there is a thread to join */
  bool running;    /* and it has not left its loop */
  bool stopping;
} timers;

void timers_init(timers *ts, const struct clock *clock);
void timers_stop(timers *ts); /* joins the thread */

/* The time of timers: the manual clock's, or the monotonic one. */
int64_t timers_now(const timers *ts);

/* Adds a timer to run at its `at`; 0 or RESPOOL_NOMEM. */
int timers_add(timers *ts, timer *t);

/* Makes it run at `at`, if that is sooner than its time. */
void timers_arm(timers *ts, timer *t, int64_t at);

/* Removes it; waits while it runs. Not from within `run`. */
void timers_remove(timers *ts, timer *t);

/* The same without a wait: a timer that is running finishes its last run.
   t->free(t), which takes no lock of a timer, is called here or then. */
void timers_discard(timers *ts, timer *t);

/* Moves a manual clock forward, running the timers that become due; or back,
   and the timers with it, as they wait for a span of time. */
void timers_advance(timers *ts, struct clock *clock, int64_t ms);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Things to be done at a time: leases to renew, buffers to flush. One thread
 * a store runs them; it is started by the first and leaves some time after
 * the last. With a manual clock there is no thread: moving the clock stops
 * at each time, runs what is due and goes on.
 */
#ifndef TIMER_H
#define TIMER_H

#include <pthread.h>
#include <stdbool.h>

#include "base/clock.h"

#define TIMER_NEVER INT64_MAX

/* Embedded at the head of what it is for. `run` is called without the lock,
   by one thread at a time; it returns when it is to run again. */
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
  int64_t wake_at; /* until when the thread sleeps, if nothing comes */
  pthread_t thread;
  bool started;    /* there is a thread to join */
  bool running;    /* and it has not left its loop */
  bool stopping;
} timers;

void timers_init(timers *ts, const struct clock *clock);
void timers_stop(timers *ts); /* joins the thread */

/* The time that timers go by: a manual clock's, or one that never steps. */
int64_t timers_now(const timers *ts);

/* Adds a timer to run at its `at`; 0 or RESPOOL_NOMEM. */
int timers_add(timers *ts, timer *t);

/* Lets it run at `at`, if that is sooner than it would. */
void timers_arm(timers *ts, timer *t, int64_t at);

/* After this it does not run any more. Not from within `run`. */
void timers_remove(timers *ts, timer *t);

/* The same without a wait: one that is running finishes, for the last time.
   t->free(t), which takes no lock of a timer, is called here or then. */
void timers_discard(timers *ts, timer *t);

/* Moves a manual clock on, running what is due on the way; or back, and the
   timers with it, as they are to run after so long. */
void timers_advance(timers *ts, struct clock *clock, int64_t ms);

#endif

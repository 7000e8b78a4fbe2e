/* SPDX-License-Identifier: MIT */
/*
 * The list of timers and the thread that runs them; see timer.h. The list is
 * short (a timer for each taken batch and each buffer), so the earliest is
 * found by a linear search.
 */
#include "threads/timer.h"

#include <string.h>

#include "base/error.h"
#include "threads/thread.h"

#define LINGER 1000 /* ms that an idle thread waits for more work */

void timers_init(timers *ts, const struct clock *clock) {
  memset(ts, 0, sizeof *ts);
  ts->clock = clock;
  pthread_mutex_init(&ts->lock, NULL);
  cond_init_monotonic(&ts->changed);
}

int64_t timers_now(const timers *ts) {
  return ts->clock->manual ? clock_now(ts->clock) : clock_mono();
}

/* ---- the list ----------------------------------------------------------- */

static void unlink_timer(timers *ts, const timer *t) {
  timer **p = &ts->list;
  while (*p && *p != t) p = &(*p)->next;
  if (*p) *p = t->next;
}

static timer *earliest(const timers *ts) {
  timer *first = NULL;
  for (timer *t = ts->list; t; t = t->next)
    if (!t->busy && t->at != TIMER_NEVER && (!first || t->at < first->at))
      first = t;
  return first;
}

/* Runs a timer, without the lock. */
static void run_timer(timers *ts, timer *t) {
  t->busy = true;
  t->moved = false;
  pthread_mutex_unlock(&ts->lock);
  int64_t again = t->run(t);
  pthread_mutex_lock(&ts->lock);
  t->busy = false;
  if (t->discarded) {
    unlink_timer(ts, t);
    t->free(t);
    return;
  }
  if (!t->moved || again < t->at) t->at = again;
  pthread_cond_broadcast(&ts->changed); /* a thread may wait to remove it */
}

/* ---- the thread --------------------------------------------------------- */

/* Sleeps until `wake_at`; an earlier timer that is added wakes it. */
static void sleep_until(timers *ts, int64_t now, int64_t wake_at) {
  struct timespec t;
  clock_deadline(&t, wake_at - now);
  ts->wake_at = wake_at;
  pthread_cond_timedwait(&ts->changed, &ts->lock, &t);
}

/* One round; false when there was nothing to do for LINGER. */
static bool run_round(timers *ts) {
  timer *t = earliest(ts);
  int64_t now = timers_now(ts);
  if (!t) {
    sleep_until(ts, now, now + LINGER);
    return ts->list || ts->stopping;
  }
  if (t->at > now)
    sleep_until(ts, now, t->at);
  else
    run_timer(ts, t);
  return true;
}

static void *timers_main(void *arg) {
  timers *ts = arg;
  pthread_mutex_lock(&ts->lock);
  while (!ts->stopping && run_round(ts)) continue;
  ts->running = false;
  pthread_mutex_unlock(&ts->lock);
  return NULL;
}

static int start_thread(timers *ts) {
  if (ts->running || ts->clock->manual) return 0;
  if (ts->started) pthread_join(ts->thread, NULL); /* it has left its loop */
  ts->started = ts->running = thread_start(&ts->thread, timers_main, ts) == 0;
  return ts->started ? 0 : fail(RESPOOL_NOMEM, "cannot start a thread");
}

void timers_stop(timers *ts) {
  pthread_mutex_lock(&ts->lock);
  ts->stopping = true;
  pthread_cond_broadcast(&ts->changed);
  pthread_mutex_unlock(&ts->lock);
  if (ts->started) pthread_join(ts->thread, NULL);
  pthread_mutex_destroy(&ts->lock);
  pthread_cond_destroy(&ts->changed);
}

/* ---- timers ------------------------------------------------------------- */

static void wake_for(timers *ts, int64_t at) {
  if (at < ts->wake_at) pthread_cond_broadcast(&ts->changed);
}

int timers_add(timers *ts, timer *t) {
  pthread_mutex_lock(&ts->lock);
  int rc = start_thread(ts);
  if (!rc) {
    t->busy = t->moved = t->discarded = false;
    t->next = ts->list;
    ts->list = t;
    wake_for(ts, t->at);
  }
  pthread_mutex_unlock(&ts->lock);
  return rc;
}

void timers_arm(timers *ts, timer *t, int64_t at) {
  pthread_mutex_lock(&ts->lock);
  if (at < t->at || t->busy) {
    t->at = at;
    t->moved = true;
    wake_for(ts, at);
  }
  pthread_mutex_unlock(&ts->lock);
}

void timers_remove(timers *ts, timer *t) {
  pthread_mutex_lock(&ts->lock);
  while (t->busy) pthread_cond_wait(&ts->changed, &ts->lock);
  unlink_timer(ts, t);
  pthread_mutex_unlock(&ts->lock);
}

void timers_discard(timers *ts, timer *t) {
  pthread_mutex_lock(&ts->lock);
  if (t->busy)
    t->discarded = true;
  else {
    unlink_timer(ts, t);
    t->free(t);
  }
  pthread_mutex_unlock(&ts->lock);
}

static void step_back(timers *ts, int64_t ms) {
  for (timer *t = ts->list; t; t = t->next)
    if (t->at != TIMER_NEVER) t->at -= ms;
}

void timers_advance(timers *ts, struct clock *clock, int64_t ms) {
  pthread_mutex_lock(&ts->lock);
  int64_t now = clock_now(clock);
  if (ms < 0) step_back(ts, -ms);
  int64_t end = time_after(now, ms);
  for (timer *t; (t = earliest(ts)) && t->at <= end;) {
    if (t->at > now) clock_advance(clock, t->at - now);
    run_timer(ts, t);
    now = clock_now(clock);
  }
  clock_advance(clock, end - now);
  pthread_mutex_unlock(&ts->lock);
}

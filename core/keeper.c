/* SPDX-License-Identifier: MIT */
/*
 * The keeper renews leases while their handlers run. Its thread is started
 * by the first lease that is kept and leaves some time after the last. What
 * it keeps are copies of the claims' places, so a lot may be settled and
 * freed meanwhile: renewing what is settled finds nothing.
 *
 * With a manual clock there is no thread: respool_advance stops at each
 * moment when a lease is to be renewed, renews it and goes on.
 */
#include "store.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define LINGER 1000 /* ms that an idle thread waits for more work */

typedef struct keep {
  struct keep *next;
  respool_queue *queue;
  uint64_t token;
  int64_t lease, renew_at, until; /* by the store's clock */
  bool busy;    /* being renewed */
  bool dropped; /* let go while it was */
  size_t n;
  hold holds[];
} keep;

void keeper_init(keeper *k, const struct clock *clock) {
  pthread_condattr_t a;
  memset(k, 0, sizeof *k);
  k->clock = clock;
  pthread_mutex_init(&k->lock, NULL);
  pthread_condattr_init(&a);
  pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
  pthread_cond_init(&k->changed, &a);
  pthread_condattr_destroy(&a);
}

/* ---- the list ----------------------------------------------------------- */

static void unlink_keep(keeper *k, const keep *one) {
  keep **p = &k->list;
  while (*p && *p != one) p = &(*p)->next;
  if (*p) *p = one->next;
}

static keep *earliest(const keeper *k) {
  keep *first = NULL;
  for (keep *one = k->list; one; one = one->next)
    if (!one->busy && (!first || one->renew_at < first->renew_at))
      first = one;
  return first;
}

static bool all_lost(const keep *one) {
  for (size_t i = 0; i < one->n; i++)
    if (!one->holds[i].lost) return false;
  return true;
}

/* Renews one, without the lock; it leaves the list when that is over. */
static void renew(keeper *k, keep *one) {
  one->busy = true;
  pthread_mutex_unlock(&k->lock);
  int rc = lot_extend_holds(one->queue, one->lease, one->token, one->holds,
                            one->n, false);
  pthread_mutex_lock(&k->lock);
  one->busy = false;
  int64_t now = clock_now(k->clock);
  one->renew_at = now + (one->lease > 3 ? one->lease / 3 : 1);
  bool over = (!rc && all_lost(one)) || one->renew_at > one->until;
  if (!over && !one->dropped) return;
  unlink_keep(k, one);
  if (one->dropped)
    free(one);
  else
    one->n = 0; /* its lot still refers to it */
}

/* ---- the thread --------------------------------------------------------- */

/* Sleeps until `wake_at`; a lease to be renewed before that wakes it. */
static void sleep_until(keeper *k, int64_t now, int64_t wake_at) {
  struct timespec t;
  clock_deadline(&t, wake_at - now);
  k->wake_at = wake_at;
  pthread_cond_timedwait(&k->changed, &k->lock, &t);
}

/* One round; false when there has been nothing to do for a while. */
static bool keeper_round(keeper *k) {
  keep *one = earliest(k);
  int64_t now = clock_now(k->clock);
  if (!one) {
    sleep_until(k, now, now + LINGER);
    return k->list || k->stopping;
  }
  if (one->renew_at > now)
    sleep_until(k, now, one->renew_at);
  else
    renew(k, one);
  return true;
}

static void *keeper_main(void *arg) {
  keeper *k = arg;
  pthread_mutex_lock(&k->lock);
  while (!k->stopping && keeper_round(k)) continue;
  k->running = false;
  pthread_mutex_unlock(&k->lock);
  return NULL;
}

/* The host's signals are not for this thread. */
static int start_thread(keeper *k) {
  sigset_t all, old;
  sigfillset(&all);
  sigdelset(&all, SIGSEGV);
  sigdelset(&all, SIGBUS);
  sigdelset(&all, SIGFPE);
  sigdelset(&all, SIGILL);
  pthread_sigmask(SIG_BLOCK, &all, &old);
  int rc = pthread_create(&k->thread, NULL, keeper_main, k);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  return rc;
}

/* With the lock held, which is given up while an old thread is joined. */
static int keeper_start(keeper *k) {
  if (k->running) return 0;
  if (k->started) pthread_join(k->thread, NULL);
  k->started = k->running = start_thread(k) == 0;
  return k->started ? 0 : fail(RESPOOL_NOMEM, "cannot start a thread");
}

void keeper_stop(keeper *k) {
  pthread_mutex_lock(&k->lock);
  k->stopping = true;
  pthread_cond_broadcast(&k->changed);
  pthread_mutex_unlock(&k->lock);
  if (k->started) pthread_join(k->thread, NULL);
  pthread_mutex_destroy(&k->lock);
  pthread_cond_destroy(&k->changed);
}

/* ---- keeping ------------------------------------------------------------ */

static keep *keep_new(const respool_lot *lot) {
  keep *one = malloc(sizeof *one + lot->n_holds * sizeof *lot->holds);
  if (!one) return NULL;
  memset(one, 0, sizeof *one);
  one->queue = lot->queue;
  one->token = lot->token;
  one->lease = lot->lease;
  int64_t now = clock_now(&lot->queue->store->clock);
  one->renew_at = now + (lot->lease > 3 ? lot->lease / 3 : 1);
  one->until = lot->max_hold > INT64_MAX - now ? INT64_MAX
                                               : now + lot->max_hold;
  one->n = lot->n_holds;
  memcpy(one->holds, lot->holds, lot->n_holds * sizeof *lot->holds);
  return one;
}

int respool_lot_keep(respool_lot *lot) {
  if (!lot) return invalid("lot", "given");
  int rc = store_check(lot->queue->store);
  if (rc || lot->keep) return rc;
  keeper *k = &lot->queue->store->keeper;
  keep *one = keep_new(lot);
  if (!one) return fail(RESPOOL_NOMEM, "not enough memory to keep a lease");
  pthread_mutex_lock(&k->lock);
  if (!lot->queue->store->clock.manual) rc = keeper_start(k);
  if (!rc) {
    one->next = k->list;
    k->list = one;
    if (one->renew_at < k->wake_at) pthread_cond_signal(&k->changed);
  }
  pthread_mutex_unlock(&k->lock);
  if (rc)
    free(one);
  else
    lot->keep = one;
  return rc;
}

void respool_lot_unkeep(respool_lot *lot) {
  if (!lot || !lot->keep) return;
  keep *one = lot->keep;
  lot->keep = NULL;
  if (store_check(lot->queue->store)) return; /* the parent's */
  keeper *k = &lot->queue->store->keeper;
  pthread_mutex_lock(&k->lock);
  if (one->busy)
    one->dropped = true;
  else {
    unlink_keep(k, one);
    free(one);
  }
  pthread_mutex_unlock(&k->lock);
}

/* ---- the manual clock --------------------------------------------------- */

void keeper_advance(respool *s, int64_t ms) {
  keeper *k = &s->keeper;
  pthread_mutex_lock(&k->lock);
  int64_t now = clock_now(&s->clock);
  int64_t end = ms > INT64_MAX - now ? INT64_MAX : now + ms;
  for (keep *one; (one = earliest(k)) && one->renew_at <= end;) {
    if (one->renew_at > now) clock_advance(&s->clock, one->renew_at - now);
    renew(k, one);
    now = clock_now(&s->clock);
  }
  clock_advance(&s->clock, end - now);
  pthread_mutex_unlock(&k->lock);
}

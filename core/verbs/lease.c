/* SPDX-License-Identifier: MIT */
/*
 * The keeper renews leases while their handlers run: one timer a lot. What
 * it keeps are copies of the claims' places, so a lot may be settled or
 * freed meanwhile: renewing what is settled finds nothing, and to give a lot
 * up does not wait for a renewal that is under way.
 */
#include "verbs/store.h"

#include <stdlib.h>
#include <string.h>

typedef struct keep {
  timer timer;
  respool_queue *queue;
  uint64_t token;
  int64_t lease, until; /* no renewal after that */
  size_t n;
  hold holds[];
} keep;

/* Each third of the lease, so that two renewals may fail. */
static int64_t next_renewal(const keep *k, int64_t now) {
  int64_t at = now + (k->lease > 3 ? k->lease / 3 : 1);
  return at > k->until ? TIMER_NEVER : at;
}

static bool all_lost(const keep *k) {
  for (size_t i = 0; i < k->n; i++)
    if (!k->holds[i].lost) return false;
  return true;
}

static int64_t renew(timer *t) {
  keep *k = (keep *)t;
  int rc = lot_extend_holds(k->queue, k->lease, k->token, k->holds, k->n,
                            false);
  if (!rc && all_lost(k)) return TIMER_NEVER;
  return next_renewal(k, timers_now(&k->queue->store->timers));
}

static keep *keep_new(const respool_lot *lot) {
  keep *k = calloc(1, sizeof *k + lot->n_holds * sizeof *lot->holds);
  if (!k) return NULL;
  int64_t now = timers_now(&lot->queue->store->timers);
  k->timer.run = renew;
  k->queue = respool_queue_ref(lot->queue);
  k->token = lot->token;
  k->lease = lot->lease;
  k->until = lot->max_hold > INT64_MAX - now ? INT64_MAX
                                             : now + lot->max_hold;
  k->n = lot->n_holds;
  memcpy(k->holds, lot->holds, lot->n_holds * sizeof *lot->holds);
  k->timer.at = next_renewal(k, now);
  return k;
}

static void keep_free(timer *t) {
  respool_queue_free(((keep *)t)->queue);
  free(t);
}

int respool_lot_keep(respool_lot *lot) {
  int rc = lot_check(lot);
  if (rc || lot->keep) return rc;
  keep *k = keep_new(lot);
  if (!k) return fail(RESPOOL_NOMEM, "not enough memory to keep a lease");
  rc = timers_add(&lot->queue->store->timers, &k->timer);
  if (rc)
    keep_free(&k->timer);
  else
    lot->keep = k;
  return rc;
}

void respool_lot_unkeep(respool_lot *lot) {
  if (!lot || !lot->keep) return;
  keep *k = lot->keep;
  lot->keep = NULL;
  if (store_check(lot->queue->store)) return; /* the parent's */
  timers_discard(&lot->queue->store->timers, &k->timer, keep_free);
}

/* SPDX-License-Identifier: MIT */
/*
 * The keeper renews leases while their handlers run: one timer a batch. What
 * it keeps are copies of the claims' places, so a batch may be settled or
 * freed meanwhile: renewing what is settled finds nothing, and to give a batch
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
  batch_claim claims[];
} keep;

/* Each third of the lease, so that two renewals may fail. */
static int64_t next_renewal(const keep *k, int64_t now) {
  int64_t at = now + (k->lease > 3 ? k->lease / 3 : 1);
  return at > k->until ? TIMER_NEVER : at;
}

static bool all_lost(const keep *k) {
  for (size_t i = 0; i < k->n; i++)
    if (!k->claims[i].lost) return false;
  return true;
}

static int64_t renew(timer *t) {
  keep *k = (keep *)t;
  int rc = batch_extend_claims(k->queue, k->lease, k->token, k->claims, k->n,
                            false);
  if (!rc && all_lost(k)) return TIMER_NEVER;
  return next_renewal(k, timers_now(&k->queue->store->timers));
}

static keep *keep_new(const respool_batch *batch) {
  keep *k = calloc(1, sizeof *k + batch->n_claims * sizeof *batch->claims);
  if (!k) return NULL;
  int64_t now = timers_now(&batch->queue->store->timers);
  k->timer.run = renew;
  k->queue = respool_queue_ref(batch->queue);
  k->token = batch->token;
  k->lease = batch->lease;
  k->until = batch->max_lease > INT64_MAX - now ? INT64_MAX
                                             : now + batch->max_lease;
  k->n = batch->n_claims;
  memcpy(k->claims, batch->claims, batch->n_claims * sizeof *batch->claims);
  k->timer.at = next_renewal(k, now);
  return k;
}

static void keep_free(timer *t) {
  respool_queue_free(((keep *)t)->queue);
  free(t);
}

int respool_batch_keep(respool_batch *batch) {
  int rc = batch_check(batch);
  if (rc || batch->keep) return rc;
  keep *k = keep_new(batch);
  if (!k) return fail(RESPOOL_NOMEM, "not enough memory to keep a lease");
  rc = timers_add(&batch->queue->store->timers, &k->timer);
  if (rc)
    keep_free(&k->timer);
  else
    batch->keep = k;
  return rc;
}

void respool_batch_unkeep(respool_batch *batch) {
  if (!batch || !batch->keep) return;
  keep *k = batch->keep;
  batch->keep = NULL;
  if (store_check(batch->queue->store)) return; /* the parent's */
  timers_discard(&batch->queue->store->timers, &k->timer, keep_free);
}

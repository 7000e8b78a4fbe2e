/* SPDX-License-Identifier: MIT */
/*
 * The lease of a batch: extending it once, and renewing it while handlers
 * run, by one timer a batch. A renewal has copies of the claims' places, so
 * that the batch may be settled or freed meanwhile: renewing what is settled
 * finds nothing, and giving a batch up does not wait for a renewal that is
 * under way.
 */
#include <stdlib.h>
#include <string.h>

#include "verbs/consume/batch.h"

/* ---- extending ---------------------------------------------------------- */

static step extend_step(respool_queue *q, int64_t lease, uint64_t token,
                        batch_claim *claims, size_t n) {
  return (step){.kind = STEP_EXTEND, .name = q->name,
                .extend = {lease, token, claims, n}};
}

static step extend_batch(respool_batch *batch, int64_t ms) {
  return extend_step(batch->queue, ms, batch->token, batch->claims,
                     batch->n_claims);
}

static size_t count_lost(const respool_batch *batch) {
  size_t n = 0;
  for (size_t i = 0; i < batch->n_claims; i++)
    for (size_t k = batch->claims[i].from; k < batch->claims[i].to; k++)
      n += batch->claims[i].lost && !batch->marks[k].settled;
  return n;
}

static int extend_check(respool_batch *batch, int64_t ms) {
  int rc = batch_check(batch);
  if (!rc && ms != RESPOOL_KEEP && (ms < 1 || ms > LEASE_MAX))
    rc = invalid("lease", "1 ms to 7 days");
  return rc;
}

int respool_batch_extend(respool_batch *batch, int64_t ms) {
  int rc = extend_check(batch, ms);
  if (rc) return rc;
  step p = extend_batch(batch, ms);
  rc = store_commit_step(batch->queue->store, &p, true);
  if (rc) return rc;
  batch->lost = count_lost(batch);
  return batch->lost ? batch_lost_error(batch->queue->name, batch->lost) : 0;
}

typedef struct extend_ticket {
  unit unit;
  step step;
  respool_batch *batch;
  respool_queue *queue;
  size_t lost; /* once the result was noted */
} extend_ticket;

static void apply_extend(respool_ticket *t) {
  extend_ticket *p = (extend_ticket *)t->unit;
  if (!t->unit->rc) p->batch->lost = p->lost = count_lost(p->batch);
  batch_detach(p->batch);
}

static int finish_extend(respool_ticket *t, respool_result *out) {
  const extend_ticket *p = (extend_ticket *)t->unit;
  (void)out;
  return p->lost ? batch_lost_error(p->queue->name, p->lost) : 0;
}

static int start_extend(respool_ticket *t, respool_batch *batch, int64_t ms) {
  extend_ticket *p = (extend_ticket *)t->unit;
  p->batch = batch;
  p->queue = batch->queue;
  p->step = extend_batch(batch, ms);
  p->unit.steps = &p->step;
  p->unit.n = 1;
  p->unit.durable = true;
  int rc = store_start(t);
  if (rc) return rc;
  t->apply_result = apply_extend;
  t->finish = finish_extend;
  batch_attach(batch, t);
  return 0;
}

int respool_batch_extend_start(respool_batch *batch, int64_t ms,
                               respool_ticket **out) {
  int rc = extend_check(batch, ms);
  if (rc) return rc;
  respool_ticket *t = queue_ticket(batch->queue, sizeof(extend_ticket));
  if (!t) return RESPOOL_NOMEM;
  return ticket_give(t, start_extend(t, batch, ms), out);
}

/* ---- renewing ----------------------------------------------------------- */

typedef struct renewal {
  timer timer;
  respool_queue *queue;
  uint64_t token;
  int64_t lease, until; /* no renewal after that */
  size_t n;
  batch_claim claims[];
} renewal;

/* Each third of the lease, so that two renewals may fail. */
static int64_t next_renewal(const renewal *r, int64_t now) {
  int64_t at = now + (r->lease > 3 ? r->lease / 3 : 1);
  return at > r->until ? TIMER_NEVER : at;
}

static bool all_lost(const renewal *r) {
  for (size_t i = 0; i < r->n; i++)
    if (!r->claims[i].lost) return false;
  return true;
}

static int64_t renew(timer *t) {
  renewal *r = (renewal *)t;
  step p = extend_step(r->queue, r->lease, r->token, r->claims, r->n);
  int rc = store_commit_step(r->queue->store, &p, false);
  if (!rc && all_lost(r)) return TIMER_NEVER;
  return next_renewal(r, timers_now(&r->queue->store->timers));
}

static void renewal_free(timer *t) {
  respool_queue_free(((renewal *)t)->queue);
  free(t);
}

static renewal *renewal_new(const respool_batch *batch) {
  renewal *r = calloc(1, sizeof *r + batch->n_claims * sizeof *batch->claims);
  if (!r) return NULL;
  int64_t now = timers_now(&batch->queue->store->timers);
  r->timer.run = renew;
  r->timer.free = renewal_free;
  r->queue = respool_queue_ref(batch->queue);
  r->token = batch->token;
  r->lease = batch->lease;
  r->until = time_after(now, batch->max_lease);
  r->n = batch->n_claims;
  memcpy(r->claims, batch->claims, batch->n_claims * sizeof *batch->claims);
  r->timer.at = next_renewal(r, now);
  return r;
}

int respool_batch_keep(respool_batch *batch) {
  int rc = batch_check(batch);
  if (rc || batch->renewal) return rc;
  renewal *r = renewal_new(batch);
  if (!r) return fail(RESPOOL_NOMEM, "not enough memory to renew a lease");
  rc = timers_add(&batch->queue->store->timers, &r->timer);
  if (rc)
    renewal_free(&r->timer);
  else
    batch->renewal = &r->timer;
  return rc;
}

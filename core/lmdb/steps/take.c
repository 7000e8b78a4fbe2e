/* SPDX-License-Identifier: MIT */
/*
 * Take: priorities from high to low, or by their weights; in each, claims
 * that are due, oldest first, then new items from the head. A take costs the
 * same whatever the backlog: every step finds its claim or segment by key.
 */
#include "lmdb/steps/take.h"

#include "lmdb/partition/flow.h"
#include "lmdb/queue/claims.h"
#include "lmdb/queue/history.h"
#include "lmdb/queue/order.h"
#include "lmdb/queue/state.h"
#include "lmdb/queue/unique_key.h"
#include "lmdb/queue/weights.h"
#include "lmdb/record/segments.h"
#include "lmdb/steps/deliver.h"
#include "lmdb/steps/turns.h"
#include "lmdb/steps/wake.h"
#include "lmdb/unit/expiry.h"
#include "lmdb/unit/journaled.h"
#include "record/leases.h"

#include <string.h>

#define SWEEP 64 /* segments of expired items ended by one take */
#define WAKE_MAX 1000 /* claims of items of partitions that one take wakes */

/* ---- a priority --------------------------------------------------------- */

/* False when the take has woken enough, or the claim cannot be read. */
static bool wake_one(take_run *run, const due_key *d) {
  if (run->woken == WAKE_MAX) run->r->more = true;
  return run->woken < WAKE_MAX && (run->woken++, wake_claim(run, d));
}

static void deliver_due(take_run *run, int priority) {
  due_key d;
  while (!take_is_full(run) &&
         claim_due(run->t, run->q, priority, run->now, &d))
    if (IS_PARTED(&d.claim.line)
            ? !wake_one(run, &d)
            : !deliver_due_claim(run, &d.claim, UINT64_MAX))
      return;
}

/* Priorities change while items are taken, so the next is found by number. */
static int priority_below(const queue *q, int priority) {
  for (size_t i = 0; i < q->n_priorities; i++)
    if (q->priorities[i].priority < priority) return q->priorities[i].priority;
  return -1;
}

/* Delivers from the priority's earliest source, if that may be delivered. */
static void deliver_ordered(take_run *run, int priority) {
  for (;;) {
    const priority_state *l = queue_priority(run->q, priority);
    if (!l || take_is_full(run)) return;
    sources s = find_sources(run->t, run->q, l, 0);
    if (s.first.id == UINT64_MAX) return;
    uint64_t upto = s.second - 1; /* at least the first itself */
    size_t before = run->batch->page.n;
    if (s.first.is_new)
      deliver_new_items(run, priority, upto);
    else if (s.first.due > run->now ||
             !deliver_due_claim(run, &s.first.claim, upto))
      return;
    if (run->batch->page.n > before) return; /* else it died: go on */
  }
}

static void deliver_plain(take_run *run, int priority, uint64_t most) {
  uint64_t end = run->cap, mine = run->batch->page.n + most;
  run->cap = mine < end ? mine : end;
  deliver_due(run, priority);
  deliver_new_items(run, priority, UINT64_MAX);
  run->cap = end;
}

static void deliver_from_turns(take_run *run, int priority, uint64_t most) {
  uint64_t end = run->cap, mine = run->batch->page.n + most;
  run->cap = mine < end ? mine : end;
  deliver_turns(run, priority);
  run->cap = end;
}

/* Items of partitions that are due come to those. */
static void wake_claims(take_run *run, int priority) {
  due_key d;
  while (!run->t->rc && claim_due(run->t, run->q, priority, run->now, &d) &&
         IS_PARTED(&d.claim.line) && wake_one(run, &d))
    continue;
}

/* In all priorities, as a lease that ran out in one may be in the way of items
   of others. */
static void wake_all(take_run *run) {
  int priority = RESPOOL_PRIORITIES;
  while (!run->t->rc && (priority = priority_below(run->q, priority)) >= 0)
    wake_claims(run, priority);
}

/* Is there anything to deliver that is of no partition? */
static bool has_plain(const take_run *run, int priority) {
  const priority_state *l = queue_priority(run->q, priority);
  line here = {run->q->id, SPACE_READY, priority};
  due_key d;
  return claim_due(run->t, run->q, priority, run->now, &d) ||
         (l && first_unsettled(run->t, &here, l->head) < UINT64_MAX);
}

/* Items without a partition are served as one more would be: they have their
   share of the batch, and are first in one of so many takes. */
static void deliver_parted(take_run *run, int priority) {
  uint64_t room = run->cap - run->batch->page.n, part = 0, n = 1;
  if (has_plain(run, priority)) {
    n += turns_count(run->t, run->q, priority, room);
    part = room / n;
    if (run->q->next_token % n == 0)
      deliver_plain(run, priority, part ? part : 1);
  }
  deliver_from_turns(run, priority, room - part);
  deliver_plain(run, priority, UINT64_MAX / 2);
  if (!take_is_full(run)) deliver_turns(run, priority);
}

static void deliver_priority(take_run *run, int priority) {
  if (run->q->n_partitions) {
    deliver_parted(run, priority);
    return;
  }
  if (run->q->config.ordered) {
    deliver_ordered(run, priority);
    return;
  }
  deliver_due(run, priority);
  deliver_new_items(run, priority, UINT64_MAX);
}

static void deliver_priorities(take_run *run) {
  int priority = RESPOOL_PRIORITIES;
  while (!take_is_full(run) &&
         (priority = priority_below(run->q, priority)) >= 0)
    deliver_priority(run, priority);
}

/* ---- by weights ---------------------------------------------------------- */

static void deliver_share(take_run *run, const share *s) {
  uint64_t end = run->cap, mine = run->batch->page.n + s->items;
  run->cap = mine < end ? mine : end;
  deliver_priority(run, s->priority);
  run->cap = end;
}

static void deliver_shares(take_run *run) {
  shares d;
  weights_share(run->t, run->q, run->now, run->cap, &d);
  for (size_t i = 0; i < d.n && !take_is_full(run); i++)
    deliver_share(run, &d.of[i]);
}

/* ---- the take ----------------------------------------------------------- */

static int64_t lease_end(const queue *q, int64_t lease, int64_t now) {
  return time_after(now, lease == RESPOOL_KEEP ? q->config.lease : lease);
}

/* Ends expired items, keys and history; true if more are left. */
static bool sweep(txn *t, queue *q, int64_t now) {
  int limit = SWEEP;
  bool more = expiry_sweep(t, q, now, SWEEP);
  key_sweep(t, q, now, SWEEP);
  history_sweep(t, q, now, &limit);
  return more;
}

static int fill_batch(txn *t, queue *q, int64_t now, claim_req *r,
                      uint64_t cap, respool_batch *batch) {
  take_run run = {t, q,   batch, r, now, lease_end(q, r->lease, now),
                  0, cap, 0, false, 0};
  int rc = journaled_token(t, q, r->worker, &batch->token);
  if (rc) return rc;
  batch->lease = run.until - now;
  batch->max_lease = q->config.max_lease;
  if (q->n_partitions) wake_all(&run);
  if (q->config.weights.n) deliver_shares(&run);
  deliver_priorities(&run);
  if (!batch->page.n) return run.rc;
  if (queue_has_flow(q)) queue_taken(t, q, now, batch->page.n, run.until);
  queue_changed(t, q);
  return 0;
}

int lmdb_claim(txn *t, const char *name, int64_t wall, claim_req *r,
               respool_batch *batch) {
  int rc = 0;
  batch_clear(batch);
  r->more = false;
  queue *q = queue_find(t, name, &rc);
  if (!q || q->paused) return rc;
  int64_t now = queue_advance_clock(t, q, wall), due;
  uint64_t cap = r->items;
  if (queue_has_flow(q)) {
    uint64_t most = queue_allows(q, now, &due);
    if (most == 0) return t->rc;
    if (most < cap) cap = most;
  }
  uint64_t expired = q->counters.expired;
  t->notices_to = r->notices;
  r->more = sweep(t, q, now);
  if (q->n_partitions && wake_partitions(t, q, now)) r->more = true;
  rc = fill_batch(t, q, now, r, cap, batch);
  t->notices_to = NULL;
  if (q->counters.expired > expired) rc = 0; /* progress, so not a failure */
  return t->rc ? t->rc : rc;
}

/* ---- outlook ------------------------------------------------------------ */

static void note_due(outlook *out, int64_t at, int64_t now) {
  if (at <= now)
    out->ready = true;
  else if (!out->next_due || at < out->next_due)
    out->next_due = at;
}

static void look_at_priority(txn *t, const queue *q, const priority_state *l,
                         int64_t now, outlook *out) {
  due_key d;
  line new = {q->id, SPACE_READY, l->priority};
  if (q->config.ordered)
    note_due(out, order_due(t, q, l), now);
  else if (q->n_partitions
               ? first_unsettled(t, &new, l->head) < UINT64_MAX
               : l->ready > 0)
    out->ready = true;
  else if (claim_first_due(t, q, l->priority, &d))
    note_due(out, d.at, now);
}

/* A take must write, and so is due, also when items have expired or the clock
   went back. */
static void look_at_clock(txn *t, const queue *q, int64_t wall,
                          outlook *out) {
  int64_t expiry;
  if (queue_clock_went_back(q, wall)) out->ready = true;
  if (first_expiry(t, q, &expiry)) note_due(out, expiry, queue_now(q, wall));
}

/* Items come no sooner than the queue's flow allows. */
static void look_at_flow(const queue *q, int64_t now, outlook *out) {
  int64_t due;
  if (queue_allows(q, now, &due) > 0) return;
  if (out->ready || (out->next_due && out->next_due < due))
    out->next_due = due;
  out->ready = false;
}

int lmdb_outlook(txn *t, const char *name, int64_t wall, const live *l,
                 outlook *out) {
  int rc = 0;
  *out = (outlook){.due_in = INT64_MAX};
  queue *q = queue_find(t, name, &rc);
  if (!q || q->paused) return rc;
  int64_t now = queue_now(q, wall), due;
  for (size_t i = 0; i < q->n_priorities; i++)
    look_at_priority(t, q, &q->priorities[i], now, out);
  look_at_clock(t, q, wall, out);
  if (q->n_partitions && (due = turns_due(t, q)) < INT64_MAX)
    note_due(out, due, now);
  if (l) live_add_outlook(l, out);
  if (queue_has_flow(q)) look_at_flow(q, now, out);
  out->due_in = out->next_due ? out->next_due - now : INT64_MAX;
  return t->rc;
}

int lmdb_extend(txn *t, const char *name, int64_t wall, int64_t lease,
                uint64_t token, batch_claim *claims, size_t n) {
  int rc = 0;
  queue *q = queue_find(t, name, &rc);
  if (!q) return rc;
  int64_t until = lease_end(q, lease, queue_advance_clock(t, q, wall));
  for (size_t i = 0; i < n; i++) {
    batch_claim *h = &claims[i];
    claim c;
    place p;
    if (h->over) continue;
    h->lost = !batch_claim_find(t, q, h, token, &p, &c);
    if (h->lost) continue;
    claim longer = c;
    longer.visible_at = until;
    claim_move(t, &p, &c, &longer);
    q->tell = true; /* it may be shorter */
    if (q->flow) queue_extended(t, q, until);
    partitions_extended(t, q, &p, c.last, until);
  }
  return t->rc;
}

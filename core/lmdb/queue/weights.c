/* SPDX-License-Identifier: MIT */
/*
 * Weighted priorities: smooth weighted round robin, as nginx does it for
 * upstreams. For each item of the batch every priority that has items earns
 * its weight in credit; the one with most credit gives the item and pays the
 * sum of the weights. Credit is stored with the priority, so that shares hold
 * over many small takes too.
 */
#include "lmdb/queue/weights.h"

#include "lmdb/queue/claims.h"
#include "lmdb/queue/state.h"

#define ROUNDS 4096 /* items dealt one by one; more are dealt in proportion */

static int64_t weight_of(const respool_weights *w, int priority) {
  for (size_t i = 0; i < w->n; i++)
    if (w->of[i].priority == priority) return w->of[i].weight;
  return 1;
}

static bool has_something(txn *t, queue *q, const priority_state *l,
                          int64_t now) {
  due_key d;
  return l->ready > 0 || claim_due(t, q, l->priority, now, &d);
}

static void find_shares(txn *t, queue *q, int64_t now, shares *d) {
  d->n = 0;
  d->sum = 0;
  for (size_t i = 0; i < q->n_priorities; i++) {
    const priority_state *l = &q->priorities[i];
    if (!has_something(t, q, l, now)) continue;
    int64_t weight = weight_of(&q->config.weights, l->priority);
    d->of[d->n++] = (share){l->priority, weight, l->credit, 0};
    d->sum += weight;
  }
}

static void deal_one(shares *d) {
  share *best = &d->of[0];
  for (size_t i = 0; i < d->n; i++) {
    d->of[i].credit += d->of[i].weight;
    if (d->of[i].credit > best->credit) best = &d->of[i];
  }
  best->credit -= d->sum;
  best->items++;
}

/* Computes how many of `items` each priority may give. */
static void deal_out(shares *d, uint64_t items) {
  uint64_t rounds = items < ROUNDS ? items : ROUNDS;
  for (uint64_t i = 0; i < rounds; i++) deal_one(d);
  for (size_t i = 0; i < d->n; i++)
    d->of[i].items = (uint64_t)((double)d->of[i].items / (double)rounds *
                                (double)items);
}

static void store_credit(queue *q, const shares *d) {
  for (size_t i = 0; i < d->n; i++) {
    priority_state *l = queue_priority(q, d->of[i].priority);
    if (l) l->credit = d->of[i].credit;
  }
}

void weights_share(txn *t, queue *q, int64_t now, uint64_t items,
                   shares *d) {
  find_shares(t, q, now, d);
  if (d->n < 2) {
    d->n = 0;
    return;
  }
  deal_out(d, items);
  store_credit(q, d);
}

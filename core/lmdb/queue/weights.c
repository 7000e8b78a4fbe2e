/* SPDX-License-Identifier: MIT */
/*
 * Weighted priorities: smooth weighted round robin, as nginx does it for
 * upstreams. For each item of the batch every priority that has something earns
 * its weight in credit; the one with most gives the item and pays the sum.
 * Credit is stored with the priority, so shares hold over many small takes too.
 */
#include "lmdb/queue/take.h"

#define ROUNDS 4096 /* items dealt out one by one; the rest goes alike */

typedef struct share {
  int priority;
  int64_t weight, credit;
  uint64_t items;
} share;

typedef struct deal {
  share of[RESPOOL_PRIORITIES];
  size_t n;
  int64_t sum;
} deal;

static int64_t weight_of(const respool_weights *w, int priority) {
  for (size_t i = 0; i < w->n; i++)
    if (w->of[i].priority == priority) return w->of[i].weight;
  return 1;
}

static bool has_something(const grab *g, const priority_state *l) {
  due_key d;
  return l->ready > 0 ||
         (first_due(g->t, g->q, l->priority, &d) && d.at <= g->now);
}

static void find_shares(const grab *g, deal *d) {
  d->n = 0;
  d->sum = 0;
  for (size_t i = 0; i < g->q->n_priorities; i++) {
    const priority_state *l = &g->q->priorities[i];
    if (!has_something(g, l)) continue;
    int64_t weight = weight_of(&g->q->config.weights, l->priority);
    d->of[d->n++] = (share){l->priority, weight, l->credit, 0};
    d->sum += weight;
  }
}

static void deal_one(deal *d) {
  share *best = &d->of[0];
  for (size_t i = 0; i < d->n; i++) {
    d->of[i].credit += d->of[i].weight;
    if (d->of[i].credit > best->credit) best = &d->of[i];
  }
  best->credit -= d->sum;
  best->items++;
}

/* How much each priority may give of `items`. */
static void deal_out(deal *d, uint64_t items) {
  uint64_t rounds = items < ROUNDS ? items : ROUNDS;
  for (uint64_t i = 0; i < rounds; i++) deal_one(d);
  for (size_t i = 0; i < d->n; i++)
    d->of[i].items = (uint64_t)((double)d->of[i].items / (double)rounds *
                                (double)items);
}

static void store_credit(grab *g, const deal *d) {
  for (size_t i = 0; i < d->n; i++) {
    priority_state *l = queue_priority(g->q, d->of[i].priority);
    if (l) l->credit = d->of[i].credit;
  }
}

static void take_share(grab *g, const share *s) {
  uint64_t end = g->cap;
  g->cap = g->batch->page.n + s->items < end ? g->batch->page.n + s->items
      : end;
  grab_priority(g, s->priority);
  g->cap = end;
}

void grab_shares(grab *g) {
  deal d;
  find_shares(g, &d);
  if (d.n < 2) return;
  deal_out(&d, g->cap);
  store_credit(g, &d);
  for (size_t i = 0; i < d.n && !grab_full(g); i++) take_share(g, &d.of[i]);
}

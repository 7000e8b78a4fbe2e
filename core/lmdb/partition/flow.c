/* SPDX-License-Identifier: MIT */
/*
 * The flow of partitions: rate and breaker are those that the queue's policy
 * has for each of them; a flow lies in its partition's record.
 */
#include "lmdb/partition/flow.h"

#include "lmdb/env/txn/cur.h"
#include "lmdb/partition/partitions.h"
#include "lmdb/partition/turns.h"
#include "lmdb/queue/state.h"
#include "lmdb/record/item_reader.h"

#include <stdlib.h>
#include <string.h>

/* ---- flow --------------------------------------------------------------- */

flow *partition_flow(txn *t, queue *q, partition *p) {
  if (p->flow) return p->flow;
  p->flow = arena_alloc(&q->parted->memory, sizeof *p->flow);
  if (p->flow)
    memset(p->flow, 0, sizeof *p->flow);
  else
    txn_fail(t, RESPOOL_NOMEM);
  return p->flow;
}

static void hold(txn *t, queue *q, respool_bytes name, int64_t ms,
                 respool_bytes why) {
  partition *p = ms ? partition_make(t, q, name) : partition_find(t, q, name);
  flow *f = p && (ms || p->flow) ? partition_flow(t, q, p) : NULL;
  if (!f) return;
  if (ms) partition_end_lone(t, q, p);
  flow_hold(f, q->clock_last, ms, why);
  partition_changed(t, q, p);
  partition_line_up(t, q, p);
}

/* ---- a change of policy ------------------------------------------------- */

static bool waits_for_turn(const partition *p) {
  for (size_t i = 0; i < p->n_lines; i++)
    if (p->lines[i].ready && !p->lines[i].in_turn) return true;
  return false;
}

/* The record behind a name; false at the end. Its name is copied. */
static bool next_partition(txn *t, const queue *q, name_key *k, bool *waits) {
  respool_bytes found, v;
  arena a;
  partition p = {.n_lines = 0};
  if (!txn_seek(t, DB_PARTITIONS, name_key_bytes(k), &found, &v) ||
      found.size < 4 || memcmp(found.data, k->b, 4) ||
      found.size > 4 + RESPOOL_NAME_MAX)
    return false;
  memcpy(k->b, found.data, found.size);
  k->n = found.size;
  arena_init(&a);
  int rc = partition_unpack(found, v, &a, &p);
  if (rc) partition_unread(t, q, rc);
  *waits = p.flow || waits_for_turn(&p);
  arena_free(&a);
  return !t->rc;
}

static void apply_policy(txn *t, queue *q, respool_bytes name,
                         const queue_config *from) {
  queue_config was, is;
  partition *p = partition_find(t, q, name);
  if (!p) return;
  config_of_partition(&was, from);
  config_of_partition(&is, &q->config);
  if (p->flow) {
    flow_policy(p->flow, &was, &is, q->clock_last);
    partition_changed(t, q, p);
  }
  partition_set_due(t, q, p, 0);
  partition_line_up(t, q, p); /* a take finds what bounds it now */
}

static bool bounds_equal(const queue_config *a, const queue_config *b) {
  return a->partition_concurrency == b->partition_concurrency &&
         a->partition_ordered == b->partition_ordered &&
         a->partition_rate_items == b->partition_rate_items &&
         a->partition_rate_per == b->partition_rate_per &&
         a->partition_rate_burst == b->partition_rate_burst &&
         a->partition_breaker_failures == b->partition_breaker_failures &&
         a->partition_breaker_probes == b->partition_breaker_probes;
}

void partitions_policy(txn *t, queue *q, const queue_config *from) {
  name_key k = partition_key(q->id, (respool_bytes){NULL, 0});
  bool waits;
  if (!q->n_partitions || bounds_equal(from, &q->config)) return;
  while (next_partition(t, q, &k, &waits)) {
    respool_bytes name = {k.b + 4, k.n - 4};
    if (waits) apply_policy(t, q, name, from);
    if (k.n == sizeof k.b) return;
    k.b[k.n++] = 0; /* behind it */
  }
}

/* ---- settling ----------------------------------------------------------- */

/* A settle, and what bounds each partition. */
typedef struct parting {
  txn *t;
  queue *q;
  int64_t now;
  const settle_req *r;
  queue_config config;
} parting;

/* The mark of an item of a partition; NULL: it has none. */
static const mark *mark_of(const settle_req *r, size_t i) {
  const respool_batch *b = r->batch;
  const mark *m = r->marks ? &r->marks[i] : &r->all;
  bool counts = m->kind && b->page.items[i].about->partition.size &&
                !batch_is_over(b, i);
  return counts ? m : NULL;
}

static void note_mark(const parting *x, const mark *m, const respool_item *i) {
  static const respool_bytes none;
  bool outage = m->kind == RESPOOL_RETRY && m->outage;
  if (m->kind == RESPOOL_HOLD && m->delay > 0)
    hold(x->t, x->q, i->about->partition, m->delay,
         m->text ? m->text->error : none);
  if (!x->config.breaker_failures) return;
  partition *p = partition_find(x->t, x->q, i->about->partition);
  flow *f = p && (p->flow || outage) ? partition_flow(x->t, x->q, p) : NULL;
  if (!f) return;
  flow_note(f, &x->config, x->now, m, i->id);
  partition_changed(x->t, x->q, p);
}

static enum excuse excuse_of(const parting *x, const respool_item *i,
                             enum excuse least) {
  partition *p = partition_find(x->t, x->q, i->about->partition);
  if (!p || !p->flow) return least;
  flow_end_settle(x->t, x->q, p->flow, &x->r->batch->page.memory);
  enum excuse e = flow_excuse(p->flow, &x->config);
  return e > least ? e : least;
}

static bool is_settled_now(const batch_claim *h) {
  return !h->over && !h->lost && h->space >= SPACE_PARTED;
}

const uint8_t *partitions_settle(txn *t, queue *q, int64_t now,
                                 const settle_req *r, enum excuse least) {
  const respool_batch *b = r->batch;
  parting x = {.t = t, .q = q, .now = now, .r = r};
  config_of_partition(&x.config, &q->config);
  uint8_t *each = arena_alloc(&r->batch->page.memory, b->page.n);
  if (!each) {
    txn_fail(t, RESPOOL_NOMEM);
    return NULL;
  }
  memset(each, (int)least, b->page.n);
  for (size_t i = 0; i < b->n_claims; i++)
    for (size_t j = b->claims[i].from;
         is_settled_now(&b->claims[i]) && j < b->claims[i].to; j++)
      if (mark_of(r, j)) note_mark(&x, mark_of(r, j), &b->page.items[j]);
  if (!x.config.breaker_failures) return each;
  for (size_t i = 0; i < b->n_claims; i++)
    for (size_t j = b->claims[i].from;
         is_settled_now(&b->claims[i]) && j < b->claims[i].to; j++)
      if (mark_of(r, j))
        each[j] = (uint8_t)excuse_of(&x, &b->page.items[j], least);
  return each;
}

/* ---- extending ---------------------------------------------------------- */

static void extend_flow(txn *t, queue *q, respool_bytes name, int64_t until) {
  partition *p = partition_find(t, q, name);
  if (!p || !p->flow) return;
  flow_extended(p->flow, until);
  partition_changed(t, q, p);
}

void partitions_extended(txn *t, queue *q, const place *p, uint64_t last,
                         int64_t until) {
  respool_page page;
  if (!IS_PARTED(&p->line) || !q->config.partition_breaker_failures) return;
  page_init(&page);
  item_reader c = {.page = &page, .line = p->line, .from = p->first,
                   .upto = last, .want = UINT64_MAX};
  while (read_items(t, &c) == READ_BAD_ITEM && !t->rc) continue;
  for (size_t i = 0; i < page.n && !t->rc; i++)
    extend_flow(t, q, page.items[i].about->partition, until);
  page_clear(&page);
}

/* ---- holds -------------------------------------------------------------- */

int lmdb_partition_hold(txn *t, const char *name, int64_t wall,
                        respool_bytes of, int64_t ms, respool_bytes why) {
  int rc = 0;
  queue *q = queue_find(t, name, &rc);
  if (!q) return rc;
  if (q->config.ordered) return partitions_unordered(q);
  queue_advance_clock(t, q, wall);
  hold(t, q, of, ms, why);
  return t->rc;
}

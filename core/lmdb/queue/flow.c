/* SPDX-License-Identifier: MIT */
/*
 * The flow of queues; see flow.h and policy/flow.h. A queue's flow is made when
 * something happens in it, and removed with the next take after all of it is
 * over.
 */
#include "lmdb/queue/flow.h"

#include "lmdb/queue/claims.h"
#include "lmdb/queue/find.h"
#include "lmdb/queue/state.h"

#include <stdlib.h>

/* The queue's flow; NULL without memory. */
static flow *flow_of(txn *t, queue *q) {
  if (!q->flow) q->flow = calloc(1, sizeof *q->flow);
  if (!q->flow) txn_fail(t, RESPOOL_NOMEM);
  queue_changed(t, q);
  return q->flow;
}

/* ---- taking ------------------------------------------------------------- */

uint64_t queue_allows(const queue *q, int64_t now, int64_t *due) {
  return flow_allows(q->flow, &q->config, now, due);
}

void queue_taken(txn *t, queue *q, int64_t now, uint64_t n, int64_t until) {
  flow *f = flow_of(t, q);
  if (!f) return;
  flow_taken(f, &q->config, now, n, until);
  if (!flow_is_idle(f, now)) return;
  free(f);
  q->flow = NULL;
}

void queue_extended(txn *t, queue *q, int64_t until) {
  if (!q->flow) return;
  flow_extended(q->flow, until);
  queue_changed(t, q);
}

/* ---- settling ----------------------------------------------------------- */

/* A claim that has got attempts back, and the first id that it got one for. */
typedef struct paid {
  place p;
  uint64_t id;
} paid;

/* The items of a claim share its attempts: it gets one back for each failure of
   one of them. */
static bool is_due(paid *list, size_t *n, const place *p, uint64_t id) {
  for (size_t i = 0; i < *n; i++)
    if (same_line(&list[i].p.line, &p->line) && list[i].p.first == p->first)
      return list[i].id == id;
  list[(*n)++] = (paid){*p, id};
  return true;
}

static void give_back(txn *t, queue *q, const flow *f, arena *a) {
  paid list[BREAKER_FAILURES_MAX];
  size_t n = 0;
  for (size_t i = 0; i < f->n_old && !t->rc; i++) {
    uint64_t id = f->row[i];
    place p;
    claim c;
    line l;
    if (!find_item(t, q, id, &l) || !claim_cover(t, &l, id, &p, &c) ||
        !c.attempts || !is_due(list, &n, &p, id))
      continue;
    claim_own(t, a, &c);
    claim back = c;
    back.attempts--;
    claim_move(t, &p, &c, &back);
  }
}

void flow_end_settle(txn *t, queue *q, flow *f, arena *a) {
  if (f->breaker && f->n_row) { /* has it opened just now? */
    give_back(t, q, f, a);
    f->n_row = 0;
  }
  f->n_old = f->n_row;
}

enum excuse queue_settles(txn *t, queue *q, int64_t now, settle_req *r) {
  respool_batch *b = r->batch;
  flow *f = flow_of(t, q);
  if (!f) return EXCUSE_NONE;
  for (size_t i = 0; i < b->n_claims; i++)
    if (!b->claims[i].over && !b->claims[i].lost)
      flow_settled(f, &q->config, now, b, r->marks, &r->all, &b->claims[i]);
  flow_end_settle(t, q, f, &b->page.memory);
  return flow_excuse(f, &q->config);
}

/* ---- the rest ----------------------------------------------------------- */

int lmdb_queue_hold(txn *t, const char *name, int64_t wall, int64_t ms,
                    respool_bytes why) {
  int rc = 0;
  queue *q = queue_find(t, name, &rc);
  if (!q || (!ms && !q->flow)) return rc;
  int64_t now = queue_advance_clock(t, q, wall);
  flow *f = flow_of(t, q);
  if (f) flow_hold(f, now, ms, why);
  return t->rc;
}

int lmdb_queue_flow(txn *t, const char *name, int64_t wall,
                    respool_flow *out) {
  int rc = 0;
  const queue *q = queue_find(t, name, &rc);
  if (q) flow_tell(q->flow, &q->config, queue_now(q, wall), out);
  return rc;
}

void queue_flow_policy(txn *t, queue *q, const queue_config *from,
                       int64_t now) {
  if (!q->flow) return;
  flow_policy(q->flow, from, &q->config, now);
  queue_changed(t, q);
}

/* SPDX-License-Identifier: MIT */
/*
 * Removing items on request: one by its id, or all that are not leased. Removed
 * items leave no dead letter; damaged ones do.
 */
#include "lmdb/unit/purge.h"

#include "lmdb/partition/partitions.h"
#include "lmdb/queue/claims.h"
#include "lmdb/queue/find.h"
#include "lmdb/queue/state.h"
#include "lmdb/record/segments.h"
#include "lmdb/unit/end_items.h"

/* ---- one ---------------------------------------------------------------- */

static void drop_item(txn *t, queue *q, const line *l, uint64_t id,
                      enum count from, int64_t now) {
  respool_page p;
  page_init(&p);
  item_reader c = {.page = &p, .line = *l, .from = id, .upto = id, .want = 1};
  int what = read_items(t, &c);
  if (what == READ_DAMAGED) /* no item can be read: it leaves */
    segments_settle(t, q, l, &id, 1);
  else
    drop_page(t, q, l, &p, now);
  if (p.n) partition_move(t, q, l, p.items, from, COUNT_NONE);
  page_clear(&p);
}

bool item_remove(txn *t, queue *q, const line *l, uint64_t id, int64_t now) {
  enum count from;
  if (!claims_take_out(t, q, l, id, now, &from)) return false;
  drop_item(t, q, l, id, from, now);
  priority_count(t, q, l->priority, from, COUNT_NONE, 1);
  q->counters.removed++;
  queue_changed(t, q);
  return true;
}

int lmdb_remove(txn *t, const char *name, int64_t wall, uint64_t id) {
  int rc = 0;
  line l;
  queue *q = queue_find(t, name, &rc);
  if (!q) return rc;
  if (!find_item(t, q, id, &l)) return item_not_found(t, q, id);
  if (!item_remove(t, q, &l, id, queue_advance_clock(t, q, wall)) && !t->rc)
    return fail(RESPOOL_BUSY, "item %llu of queue '%.120s' is leased",
                (unsigned long long)id, q->name);
  return t->rc;
}

/* ---- all ---------------------------------------------------------------- */

/* The part of a purge that is one commit. */
typedef struct sweep {
  txn *t;
  queue *q;
  int64_t now;
  size_t left; /* items that it may still remove */
  uint64_t removed;
} sweep;

/* Removes items of a range, up to what is left; returns their number, and
   where it stopped. */
static uint64_t purge_range(sweep *s, const line *l, uint64_t from,
                            uint64_t upto, const claim *of, uint64_t *last) {
  respool_page p;
  page_init(&p);
  item_reader c = {
      .page = &p, .line = *l, .from = from, .upto = upto, .want = s->left};
  uint64_t lost = 0;
  int what;
  do {
    what = read_items(s->t, &c);
    if (what == READ_DAMAGED || what == READ_BAD_ITEM)
      lost += end_unreadable(s->t, s->q, &c, what, of);
  } while (!s->t->rc && what != READ_END && what != READ_FULL);
  enum count was = of ? claim_count(of) : COUNT_READY;
  for (size_t i = 0; i < p.n; i++)
    partition_move(s->t, s->q, l, &p.items[i], was, COUNT_NONE);
  drop_page(s->t, s->q, l, &p, s->now);
  uint64_t n = p.n;
  page_clear(&p);
  s->left -= n < s->left ? n : s->left;
  s->removed += n;
  s->q->counters.removed += n;
  *last = c.last;
  return n + lost;
}

static void purge_claim(sweep *s, const place *p, const claim *old,
                        arena *a) {
  uint64_t last;
  claim c = *old;
  if (c.state == CLAIM_LEASED) claim_end_lease(s->t, s->q, &p->line, a, &c);
  uint64_t n = purge_range(s, &p->line, p->first, c.last, &c, &last);
  if (c.state == CLAIM_LEASED) s->q->counters.crashed += n;
  priority_count(s->t, s->q, p->line.priority, claim_count(&c), COUNT_NONE, n);
  c.left -= n < c.left ? n : c.left;
  if (c.left)
    claim_move(s->t, p, old, &c);
  else
    claim_del(s->t, p, old);
}

static bool next(sweep *s, place *p, claim *c, arena *a) {
  bool found = claim_next(s->t, s->q, *p, p, c);
  if (found) claim_own(s->t, a, c);
  return found && !s->t->rc;
}

static void purge_claims(sweep *s) {
  place p = {{s->q->id, 0, 0}, 0, 0};
  arena a;
  claim c;
  arena_init(&a);
  for (; s->left && next(s, &p, &c, &a); p.first++)
    if (!claim_held(&c, s->now)) purge_claim(s, &p, &c, &a);
  arena_free(&a);
}

static void purge_new(sweep *s) {
  for (size_t i = 0; i < s->q->n_priorities && s->left; i++) {
    priority_state *priority = &s->q->priorities[i];
    line l = {s->q->id, SPACE_READY, priority->priority};
    uint64_t last = 0;
    if (!priority->ready) continue;
    uint64_t n = purge_range(s, &l, priority->head, UINT64_MAX, NULL, &last);
    if (last) priority->head = last + 1;
    priority_count(s->t, s->q, l.priority, COUNT_READY, COUNT_NONE, n);
  }
}

/* The items of partitions that have no claim lie between those that have. */
static void purge_listed(sweep *s, int priority) {
  line l = {s->q->id, SPACE_PARTED, priority};
  place gap = {l, 0, 0};
  uint64_t upto;
  while (s->left && !s->t->rc && claim_gap(s->t, &l, &gap.first, &upto)) {
    uint64_t last;
    uint64_t n = purge_range(s, &l, gap.first, upto, NULL, &last);
    priority_count(s->t, s->q, priority, COUNT_READY, COUNT_NONE, n);
    if (upto == UINT64_MAX) return;
    gap.first = upto + 1;
  }
}

static void purge_partitions(sweep *s) {
  for (size_t i = 0; i < s->q->n_priorities && s->left; i++)
    purge_listed(s, s->q->priorities[i].priority);
}

int lmdb_purge(txn *t, const char *name, int64_t wall, size_t limit,
               uint64_t *removed, bool *more) {
  int rc = 0;
  queue *q = queue_find(t, name, &rc);
  if (!q) return rc;
  sweep s = {t, q, queue_advance_clock(t, q, wall), limit, 0};
  purge_claims(&s);
  purge_new(&s);
  if (q->n_partitions) purge_partitions(&s);
  if (s.removed) queue_changed(t, q);
  *removed = s.removed;
  *more = s.left == 0;
  return t->rc;
}

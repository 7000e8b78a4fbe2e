/* SPDX-License-Identifier: MIT */
/*
 * The passing of time for partitions: those that were held, or had no tokens,
 * get their turns; items that waited, or whose lease ran out, come to the list
 * of theirs, in a segment of their own if they are not as they were pushed.
 */
#include "lmdb/steps/wake.h"

#include "lmdb/env/txn/cur.h"
#include "lmdb/partition/partitions.h"
#include "lmdb/partition/recount.h"
#include "lmdb/partition/turns.h"
#include "lmdb/queue/state.h"
#include "lmdb/record/segments.h"
#include "lmdb/unit/end_items.h"

#include <stdlib.h>

#define WAKE_MAX 1000 /* partitions that one take wakes */

/* ---- partitions by time ------------------------------------------------- */

static bool first_due(txn *t, const queue *q, int64_t *at,
                      respool_bytes *name) {
  respool_bytes found, none;
  uint32_t of;
  name_key k = partition_due_key(q->id, 0, (respool_bytes){NULL, 0});
  return txn_seek(t, DB_PARTITION_DUE, name_key_bytes(&k), &found, &none) &&
         partition_due_read(found, &of, at, name) && of == q->id;
}

/* The first one if it is due; looks only when one may be. */
static bool is_due(txn *t, queue *q, int64_t now, int64_t *at,
                   respool_bytes *name) {
  if (q->parted_from > now) return false;
  bool any = first_due(t, q, at, name);
  q->parted_from = any ? *at : INT64_MAX;
  return any && *at <= now;
}

bool wake_partitions(txn *t, queue *q, int64_t now) {
  respool_bytes name;
  int64_t at;
  for (int left = WAKE_MAX; is_due(t, q, now, &at, &name); left--) {
    if (!left) return true;
    name_key k = partition_due_key(q->id, at, name);
    name.data = k.b + k.n - name.size; /* others are written meanwhile */
    partition *p = partition_find(t, q, name);
    txn_del(t, DB_PARTITION_DUE, name_key_bytes(&k));
    if (!p || p->due != at) continue; /* left over */
    p->due = 0;
    partition_changed(t, q, p);
    partition_line_up(t, q, p);
  }
  return false;
}

int64_t wake_due(txn *t, const queue *q) {
  respool_bytes name;
  int64_t at;
  return first_due(t, q, &at, &name) ? at : INT64_MAX;
}

/* ---- claims by time ----------------------------------------------------- */

static bool is_untouched(const claim *c) {
  return !claim_has_failed(c) && !c->deliveries && !c->memo.size;
}

static void leave_segments(take_run *run, const line *l,
                           const respool_page *page) {
  uint64_t *ids = malloc(page->n * sizeof *ids);
  if (!ids) {
    txn_fail(run->t, RESPOOL_NOMEM);
    return;
  }
  for (size_t i = 0; i < page->n; i++) ids[i] = page->items[i].id;
  segments_settle(run->t, run->q, l, ids, page->n);
  free(ids);
}

/* The items of a claim; those that cannot be read end. Returns how many. */
static uint64_t read_claim(take_run *run, const place *p, const claim *c,
                       respool_page *page) {
  item_reader r = {.page = page, .line = p->line, .from = p->first,
                   .upto = c->last, .want = UINT64_MAX};
  uint64_t sum = 0;
  int what;
  while ((what = read_items(run->t, &r)) != READ_END && what != READ_FULL &&
         !run->t->rc) {
    uint64_t lost = end_unreadable(run->t, run->q, &r, what, c);
    priority_count(run->t, run->q, p->line.priority, claim_count(c),
                   COUNT_NONE, lost);
    sum += lost;
  }
  return sum;
}

static void note_listed(queue *q, int priority, uint64_t id) {
  priority_state *s = queue_priority(q, priority);
  if (s && id < s->listed) s->listed = id;
}

static void wake_items(take_run *run, const place *p, const claim *c,
                       enum count from, const respool_page *page) {
  line l = p->line;
  bool parks = l.space == SPACE_PARTED_SOLO || !is_untouched(c);
  if (parks && page->n) leave_segments(run, &p->line, page);
  if (parks)
    l.space = SPACE_PARTED_SOLO;
  else if (page->n)
    note_listed(run->q, l.priority, page->items[0].id);
  for (size_t i = 0; i < page->n && !run->t->rc; i++) {
    if (parks) partition_park(run->t, run->q, &l, c, page, i);
    partition_move(run->t, run->q, &l, &page->items[i], from, COUNT_READY);
  }
  priority_count(run->t, run->q, l.priority, claim_count(c), COUNT_READY,
                 page->n);
}

bool wake_claim(take_run *run, const due_key *d) {
  const place *p = &d->claim;
  respool_page page;
  claim old, c;
  if (!take_load_claim(run, p, &old)) return false;
  c = old;
  enum count from = claim_count(&c);
  page_init(&page);
  if (c.state == CLAIM_LEASED)
    claim_lapse(run->t, run->q, p->line.priority, &run->batch->page.memory, &c);
  uint64_t lost = read_claim(run, p, &c, &page);
  if (from == COUNT_LEASED && page.n == 1 &&
      take_ends_crashed(run, p, &old, &c)) {
    partition_move(run->t, run->q, &p->line, page.items, from, COUNT_NONE);
  } else if (!run->t->rc) {
    claim_del(run->t, p, &old);
    wake_items(run, p, &c, from, &page);
  }
  if (lost) partitions_recount(run->t, run->q);
  page_clear(&page);
  return !run->t->rc;
}

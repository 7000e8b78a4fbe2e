/* SPDX-License-Identifier: MIT */
/*
 * Expiry: items that outlive their TTL. A segment whose items expire has an
 * entry under its time in `expiries`, as long as it exists; the sweep ends its
 * items, by the queue's policy, unless they are leased.
 */
#include "lmdb/unit/expiry.h"

#include "lmdb/env/txn/cur.h"
#include "lmdb/partition/partitions.h"
#include "lmdb/queue/claims.h"
#include "lmdb/queue/find.h"
#include "lmdb/queue/room.h"
#include "lmdb/queue/state.h"
#include "lmdb/record/segments.h"
#include "lmdb/unit/end_items.h"

/* Ends one item of a page, with the counts and failures of its claim. False
   when it is leased: then `*held` is when its lease ends. */
static bool expire_item(txn *t, queue *q, const line *l,
                        const respool_page *p, size_t i, int64_t now,
                        int64_t *held) {
  respool_page one = {.items = &p->items[i], .packed = &p->packed[i], .n = 1};
  uint64_t id = p->items[i].id;
  enum count from;
  place owner;
  claim c;
  arena a;
  arena_init(&a);
  bool claimed = claim_cover(t, l, id, &owner, &c);
  *held = claimed && claim_held(&c, now) ? c.visible_at : 0;
  if (claimed) claim_own(t, &a, &c);
  if (claimed && !*held && c.state == CLAIM_LEASED) claim_crash(t, &a, &c);
  bool ends = !*held && !t->rc && claims_take_out(t, q, l, id, now, &from);
  if (ends) {
    priority_count(t, q, l->priority, from, COUNT_NONE, 1);
    partition_move(t, q, l, &p->items[i], from, COUNT_NONE);
    expire_page(t, q, l, &one, claimed ? &c : NULL, now);
    queue_changed(t, q);
  }
  arena_free(&a);
  return ends;
}

/* Ends the items of an expired segment that are not leased. Returns when the
   first lease on the others ends, or 0 when there are none. */
static int64_t expire_segment(txn *t, queue *q, const place *at,
                              int64_t now) {
  int64_t first = 0, held;
  respool_page p;
  page_init(&p);
  item_reader c = {.page = &p,
                   .line = at->line,
                   .from = at->first,
                   .upto = place_last(at),
                   .want = UINT64_MAX};
  while (read_items(t, &c) == READ_BAD_ITEM) continue;
  for (size_t i = 0; i < p.n && !t->rc; i++) {
    expire_item(t, q, &at->line, &p, i, now, &held);
    if (held && (!first || held < first)) first = held;
  }
  page_clear(&p);
  return first;
}

/* Has the segment that holds the item expired? Does not verify it. */
static bool has_expired(txn *t, const line *l, uint64_t id, int64_t now) {
  segment_cursor w;
  segments_open(&w, t, l, id);
  int64_t at = segments_next(&w) ? segment_expiry(w.value) : 0;
  segments_close(&w);
  return at && at <= now;
}

bool item_expire(txn *t, queue *q, uint64_t id, int64_t now) {
  line l;
  int64_t held;
  if (!find_item(t, q, id, &l) || !has_expired(t, &l, id, now)) return false;
  respool_page p;
  page_init(&p);
  item_reader c = {.page = &p, .line = l, .from = id, .upto = id, .want = 1};
  read_items(t, &c);
  bool ended = p.n == 1 && expire_item(t, q, &l, &p, 0, now, &held);
  page_clear(&p);
  return ended && !t->rc;
}

/* The queue's first entry in `expiries`. */
static bool first_entry(txn *t, const queue *q, place *at,
                        int64_t *expires_at) {
  place zero = {{q->id, 0, 0}, 0, 0};
  key start = expiry_key(&zero, 0);
  respool_bytes found, none;
  return txn_seek(t, DB_EXPIRIES, key_bytes(&start), &found, &none) &&
         expiry_key_read(found, at, expires_at) && at->line.queue == q->id;
}

bool first_expiry(txn *t, const queue *q, int64_t *at) {
  place p;
  return first_entry(t, q, &p, at);
}

void expiry_forget(txn *t, const queue *q) {
  place at;
  int64_t expires_at;
  while (first_entry(t, q, &at, &expires_at)) {
    key k = expiry_key(&at, expires_at);
    txn_del(t, DB_EXPIRIES, key_bytes(&k));
  }
}

/* The first entry if it has expired; looks only when one may have. */
static bool first_expired(txn *t, queue *q, int64_t now, place *at,
                          int64_t *expires_at) {
  if (q->expires_from > now) return false;
  bool any = first_entry(t, q, at, expires_at);
  q->expires_from = any ? *expires_at : INT64_MAX;
  return any && *expires_at <= now;
}

bool expiry_sweep(txn *t, queue *q, int64_t now, int limit) {
  place at;
  int64_t expires_at;
  while (first_expired(t, q, now, &at, &expires_at) &&
         !expiry_room(t, q, &at)) {
    key k = expiry_key(&at, expires_at);
    int64_t again = expire_segment(t, q, &at, now);
    txn_del(t, DB_EXPIRIES, key_bytes(&k));
    k = expiry_key(&at, again);
    if (again) {
      txn_put_null(t, DB_EXPIRIES, key_bytes(&k));
      time_comes(&q->expires_from, again);
    }
    if (--limit == 0) return true;
  }
  return false;
}

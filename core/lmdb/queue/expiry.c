/* SPDX-License-Identifier: MIT */
/*
 * Ends that nobody asked for: items that outlived their TTL, segments and
 * items whose bytes are damaged. Each becomes a dead letter with its reason (or
 * is dropped, where the queue says so for the expired), is counted, and
 * leaves its segment; nothing vanishes and nothing stops the queue.
 */
#include "lmdb/parts.h"

#include <stdlib.h>

/* ---- burying ------------------------------------------------------------ */

static void settle_page(txn *t, queue *q, const line *l,
                        const respool_page *p, size_t from) {
  size_t n = p->n - from;
  uint64_t *ids = n ? malloc(n * sizeof *ids) : NULL;
  if (n && !ids) txn_spoil(t, RESPOOL_NOMEM);
  if (!ids) return;
  for (size_t i = 0; i < n; i++) ids[i] = p->items[from + i].id;
  segments_settle(t, q, l, ids, n);
  free(ids);
}

void bury_page(txn *t, queue *q, const line *l, const respool_page *p,
               size_t from, const death *d) {
  for (size_t i = from; i < p->n; i++) {
    unique_release(t, q, &p->items[i], d->at);
    dead_bury(t, q, d, &p->items[i], p->packed[i]);
  }
  settle_page(t, q, l, p, from);
}

void drop_page(txn *t, queue *q, const line *l, const respool_page *p,
               int64_t now) {
  for (size_t i = 0; i < p->n; i++) {
    blob_ref r = blob_of(p->packed[i]);
    unique_release(t, q, &p->items[i], now);
    if (r.number) blob_del(t, r.number);
    q->bytes -= r.size < q->bytes ? r.size : q->bytes;
  }
  settle_page(t, q, l, p, 0);
}

static death death_of(const claim *c, const char *reason, int64_t now) {
  death d = {.reason = reason, .items = 1, .at = now};
  if (!c) return d;
  d.history = c->history;
  d.memo = c->memo;
  d.error = history_error(c->history);
  d.attempts = c->attempts;
  d.deliveries = c->deliveries;
  d.crashes = c->crashes;
  return d;
}

static void end_expired(txn *t, queue *q, const line *l,
                        const respool_page *p, const claim *c, int64_t now) {
  death d = death_of(c, "expired", now);
  if (q->config.on_expire == RESPOOL_LIMIT_DROP)
    drop_page(t, q, l, p, now);
  else
    bury_page(t, q, l, p, 0, &d);
  q->counters.expired += p->n;
}

/* A dead letter is larger than a small item. */
#define DEAD_COST 160

int expiry_room(txn *t, const queue *q, const place *at) {
  if (q->config.on_expire == RESPOOL_LIMIT_DROP) return 0;
  return disk_copy(t, SEGMENT_BYTES + (uint64_t)at->count * DEAD_COST);
}

/* ---- what stops a catch ------------------------------------------------- */

/* All of the segment that is in the range, which has expired. */
static size_t lose_expired(txn *t, queue *q, catch *c, const claim *from) {
  respool_page p;
  page_init(&p);
  catch all = *c;
  all.page = &p;
  all.now = 0; /* nothing has expired by then */
  all.want = UINT64_MAX;
  all.bytes = 0;
  all.got = 0;
  uint64_t end = place_last(&c->at);
  if (all.upto > end) all.upto = end;
  while (items_catch(t, &all) == CATCH_BAD_ITEM) continue;
  end_expired(t, q, &c->line, &p, from, c->now);
  size_t n = p.n;
  page_clear(&p);
  return n;
}

/* The bytes of a segment as they are, in one dead letter for its items. */
static void bury_segment(txn *t, queue *q, const catch *c,
                         const uint64_t *ids, size_t n, const claim *from) {
  respool_bytes v;
  key k = segment_key(&c->at);
  packer p;
  packer_init(&p);
  if (txn_get(t, DB_SEGMENTS, key_bytes(&k), &v))
    item_pack_damaged(&p, v);
  txn_spoil(t, p.rc);
  death d = death_of(from, "undecodable", c->now);
  respool_item i = {.id = ids[0], .priority = c->line.priority};
  d.items = n;
  d.error = phrase_of("the segment's checksum does not hold");
  if (!t->rc)
    dead_bury(t, q, &d, &i, (respool_bytes){p.data, p.len});
  packer_free(&p);
}

static size_t lose_segment(txn *t, queue *q, catch *c, const claim *from) {
  uint64_t *ids = malloc(SEGMENT_ITEMS * sizeof *ids);
  if (!ids) {
    txn_spoil(t, RESPOOL_NOMEM);
    return 0;
  }
  size_t n = items_live(t, c, ids);
  if (n) {
    bury_segment(t, q, c, ids, n, from);
    segments_settle(t, q, &c->line, ids, n);
  }
  q->counters.died += n;
  q->counters.damaged++;
  free(ids);
  return n;
}

/* The last item of the page, whose bytes could not be read. */
static size_t lose_item(txn *t, queue *q, catch *c, const claim *from) {
  death d = death_of(from, "undecodable", c->now);
  d.error = phrase_of("the item's bytes are damaged");
  bury_page(t, q, &c->line, c->page, c->page->n - 1, &d);
  c->page->n--;
  q->counters.died++;
  q->counters.damaged++;
  return 1;
}

size_t catch_lose(txn *t, queue *q, catch *c, int what, const claim *from) {
  size_t n;
  if (what == CATCH_BAD_ITEM)
    n = lose_item(t, q, c, from);
  else {
    n = what == CATCH_EXPIRED ? lose_expired(t, q, c, from)
                              : lose_segment(t, q, c, from);
    catch_pass(c);
  }
  queue_changed(t, q);
  return n;
}

/* ---- the sweep ---------------------------------------------------------- */

/* Ends one item of a page by itself, with what its claim knows of it: true.
   One that is leased stays, and `*held` is when its lease ends. */
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
  bool ends = !*held && !t->rc && claims_part(t, q, l, id, now, &from);
  if (ends) {
    priority_count(t, q, l->priority, from, COUNT_NONE, 1);
    end_expired(t, q, l, &one, claimed ? &c : NULL, now);
    queue_changed(t, q);
  }
  arena_free(&a);
  return ends;
}

/* Ends what is not leased of a segment that has expired. Returns when the
   first lease on the rest ends, or 0 when there is none. */
static int64_t expire_segment(txn *t, queue *q, const place *at,
                              int64_t now) {
  int64_t first = 0, held;
  respool_page p;
  page_init(&p);
  catch c = {.page = &p, .line = at->line, .from = at->first,
             .upto = place_last(at), .want = UINT64_MAX};
  while (items_catch(t, &c) == CATCH_BAD_ITEM) continue;
  for (size_t i = 0; i < p.n && !t->rc; i++) {
    expire_item(t, q, &at->line, &p, i, now, &held);
    if (held && (!first || held < first)) first = held;
  }
  page_clear(&p);
  return first;
}

/* Has the segment that holds the item expired? Read only, not verified. */
static bool is_past(txn *t, const line *l, uint64_t id, int64_t now) {
  walk w;
  walk_open(&w, t, l, id);
  int64_t at = walk_next(&w) ? segment_expiry(w.value) : 0;
  walk_close(&w);
  return at && at <= now;
}

bool item_expire(txn *t, queue *q, uint64_t id, int64_t now) {
  line l;
  int64_t held;
  if (!txn_entries(t, DB_EXPIRIES) || !find_item(t, q, id, &l) ||
      !is_past(t, &l, id, now))
    return false;
  respool_page p;
  page_init(&p);
  catch c = {.page = &p, .line = l, .from = id, .upto = id, .want = 1};
  items_catch(t, &c);
  bool ended = p.n == 1 && expire_item(t, q, &l, &p, 0, now, &held);
  page_clear(&p);
  return ended && !t->rc;
}

/* The queue's first entry in `expiries`. */
static bool first_entry(txn *t, const queue *q, place *at,
                        int64_t *expires_at) {
  place zero = {{q->id, 0, 0}, 0, 0};
  key start = expiry_key(&zero, 0);
  cur c;
  if (!txn_entries(t, DB_EXPIRIES)) return false;
  cur_open(&c, t, DB_EXPIRIES);
  bool found = cur_seek(&c, key_bytes(&start)) &&
               expiry_key_read(c.key, at, expires_at) &&
               at->line.queue == q->id;
  cur_close(&c);
  return found;
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

bool expiry_sweep(txn *t, queue *q, int64_t now, int limit) {
  place at;
  int64_t expires_at;
  while (first_entry(t, q, &at, &expires_at) && expires_at <= now &&
         !expiry_room(t, q, &at)) {
    key k = expiry_key(&at, expires_at);
    int64_t again = expire_segment(t, q, &at, now);
    txn_del(t, DB_EXPIRIES, key_bytes(&k));
    k = expiry_key(&at, again);
    if (again) txn_put_null(t, DB_EXPIRIES, key_bytes(&k));
    if (--limit == 0) return true;
  }
  return false;
}

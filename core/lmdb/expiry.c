/* SPDX-License-Identifier: MIT */
/*
 * Ends that nobody asked for: items that outlived their TTL, segments and
 * items whose bytes are damaged. Each becomes a letter with its reason (or
 * is dropped, where the queue says so for the expired), is counted, and
 * leaves its segment; nothing vanishes and nothing stops the queue.
 */
#include "parts.h"

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
  for (size_t i = from; i < p->n; i++)
    letter_bury(t, q, d, &p->items[i], p->packed[i]);
  settle_page(t, q, l, p, from);
}

void drop_page(txn *t, queue *q, const line *l, const respool_page *p) {
  for (size_t i = 0; i < p->n; i++) {
    blob_ref r = blob_of(p->packed[i]);
    if (r.number) blob_del(t, r.number);
    q->bytes -= r.size < q->bytes ? r.size : q->bytes;
  }
  settle_page(t, q, l, p, 0);
}

static death death_of(const claim *c, const char *reason, int64_t now) {
  death d = {.reason = reason, .items = 1, .at = now};
  if (!c) return d;
  d.history = c->history;
  d.error = history_error(c->history);
  d.attempts = c->attempts;
  d.deliveries = c->deliveries;
  d.crashes = c->crashes;
  return d;
}

static void end_expired(txn *t, queue *q, const line *l,
                        const respool_page *p, const claim *c, int64_t now) {
  death d = death_of(c, "expired", now);
  if (q->config.on_expire == RESPOOL_FATE_DROP)
    drop_page(t, q, l, p);
  else
    bury_page(t, q, l, p, 0, &d);
  q->counters.expired += p->n;
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

/* The bytes of a segment as they are, in one letter for its items. */
static void bury_segment(txn *t, queue *q, const catch *c,
                         const uint64_t *ids, size_t n, const claim *from) {
  respool_bytes v;
  key k = segment_key(&c->at);
  packer p;
  packer_init(&p);
  if (txn_get(t, DB_SEGMENTS, key_bytes(&k), &v))
    pack_bytes(&p, v.data, v.size);
  txn_spoil(t, p.rc);
  death d = death_of(from, "undecodable", c->now);
  respool_item i = {.id = ids[0], .lane = c->line.lane};
  d.items = n;
  d.error = phrase_of("the segment's checksum does not hold");
  if (!t->rc)
    letter_bury(t, q, &d, &i, (respool_bytes){p.data, p.len});
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

/* Keeps the items of a page that are not leased, takes them out of their
   claims and counts. */
static void part_page(txn *t, queue *q, const line *l, respool_page *p,
                      int64_t now) {
  size_t n = 0;
  for (size_t i = 0; i < p->n; i++) {
    enum count from;
    if (!claims_part(t, q, l, p->items[i].id, now, &from)) continue;
    lane_count(t, q, l->lane, from, COUNT_NONE, 1);
    p->items[n] = p->items[i];
    p->packed[n++] = p->packed[i];
  }
  p->n = n;
}

/* A segment that holds several claims' items ends them all alike: what they
   went through before is in no letter of theirs. */
static void expire_segment(txn *t, queue *q, const place *at, int64_t now) {
  respool_page p;
  page_init(&p);
  catch c = {.page = &p, .line = at->line, .from = at->first,
             .upto = place_last(at), .want = UINT64_MAX};
  place owner;
  claim of;
  bool claimed = claim_cover(t, &at->line, at->first, &owner, &of);
  if (claimed) txn_spoil(t, arena_copy(&p.memory, of.history, &of.history));
  while (items_catch(t, &c) == CATCH_BAD_ITEM) continue;
  part_page(t, q, &at->line, &p, now);
  if (p.n) end_expired(t, q, &at->line, &p, claimed ? &of : NULL, now);
  page_clear(&p);
}

bool expiry_sweep(txn *t, queue *q, int64_t now, int limit) {
  place zero = {{q->id, 0, 0}, 0, 0}, at;
  int64_t expires_at;
  bool more = false;
  cur c;
  if (!txn_entries(t, DB_EXPIRIES)) return false;
  cur_open(&c, t, DB_EXPIRIES);
  key start = expiry_key(&zero, 0);
  while (!more && cur_seek(&c, key_bytes(&start)) &&
         expiry_key_read(c.key, &at, &expires_at) &&
         at.line.queue == q->id && expires_at <= now) {
    key k = expiry_key(&at, expires_at);
    expire_segment(t, q, &at, now);
    txn_del(t, DB_EXPIRIES, key_bytes(&k)); /* what is leased is seen then */
    more = --limit == 0;
  }
  cur_close(&c);
  return more;
}

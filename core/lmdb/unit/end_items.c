/* SPDX-License-Identifier: MIT */
/*
 * Items that end without an outcome of their own: they outlived their TTL, were
 * removed, or are damaged. They become dead letters with their reason, or are
 * dropped where the queue says so for the expired; they are counted, and leave
 * their segments.
 */
#include "lmdb/unit/end_items.h"

#include "lmdb/partition/partitions.h"
#include "lmdb/queue/claims.h"
#include "lmdb/queue/state.h"
#include "lmdb/queue/unique_key.h"
#include "lmdb/record/blobs.h"
#include "lmdb/record/segments.h"

#include <stdlib.h>

static void settle_page(txn *t, queue *q, const line *l,
                        const respool_page *p, size_t from) {
  size_t n = p->n - from;
  uint64_t *ids = n ? malloc(n * sizeof *ids) : NULL;
  if (n && !ids) txn_fail(t, RESPOOL_NOMEM);
  if (!ids) return;
  for (size_t i = 0; i < n; i++) ids[i] = p->items[from + i].id;
  segments_settle(t, q, l, ids, n);
  free(ids);
}

void dead_letter_page(txn *t, queue *q, const line *l, const respool_page *p,
                      size_t from, const death *d) {
  for (size_t i = from; i < p->n; i++) {
    key_release(t, q, &p->items[i], d->at);
    dlq_add(t, q, d, &p->items[i], p->packed[i]);
  }
  settle_page(t, q, l, p, from);
}

void drop_page(txn *t, queue *q, const line *l, const respool_page *p,
               int64_t now) {
  for (size_t i = 0; i < p->n; i++) {
    blob_ref r = blob_of(p->packed[i]);
    key_release(t, q, &p->items[i], now);
    if (r.number) blob_del(t, r.number);
    q->bytes -= r.size < q->bytes ? r.size : q->bytes;
  }
  settle_page(t, q, l, p, 0);
}

static death death_of(const claim *c, const char *reason, int64_t now) {
  death d = {.reason = reason, .items = 1, .at = now};
  if (!c) return d;
  d.failures = c->failures;
  d.memo = c->memo;
  d.error = failures_error(c->failures);
  d.attempts = c->attempts;
  d.deliveries = c->deliveries;
  d.crashes = c->crashes;
  return d;
}

void expire_page(txn *t, queue *q, const line *l, const respool_page *p,
                 const claim *c, int64_t now) {
  death d = death_of(c, "expired", now);
  if (q->config.on_expire == RESPOOL_LIMIT_DROP)
    drop_page(t, q, l, p, now);
  else
    dead_letter_page(t, q, l, p, 0, &d);
  q->counters.expired += p->n;
}

/* Ends the items of the range in a segment that has expired, which only a take
   does. */
static size_t end_expired_segment(txn *t, queue *q, item_reader *c,
                                  const claim *from) {
  respool_page p;
  page_init(&p);
  item_reader all = *c;
  all.page = &p;
  all.now = 0; /* nothing has expired by then */
  all.want = UINT64_MAX;
  all.bytes = 0;
  all.got = 0;
  uint64_t end = place_last(&c->at);
  if (all.upto > end) all.upto = end;
  while (read_items(t, &all) == READ_BAD_ITEM) continue;
  for (size_t i = 0; i < p.n; i++)
    partition_end_given(t, q, &c->line, &p.items[i]);
  expire_page(t, q, &c->line, &p, from, c->now);
  size_t n = p.n;
  page_clear(&p);
  return n;
}

/* Keeps the bytes of a damaged segment in one dead letter for its items. */
static void dead_letter_segment(txn *t, queue *q, const item_reader *c,
                                const uint64_t *ids, size_t n,
                                const claim *from) {
  respool_bytes v;
  key k = segment_key(&c->at);
  packer p;
  packer_init(&p);
  if (txn_get(t, DB_SEGMENTS, key_bytes(&k), &v))
    item_pack_damaged(&p, v);
  txn_fail(t, p.rc);
  death d = death_of(from, "undecodable", c->now);
  respool_item_about about = {.priority = c->line.priority};
  respool_item i = {.id = ids[0], .about = &about};
  d.items = n;
  d.error = phrase_of("the segment's checksum does not hold");
  if (!t->rc) dlq_add(t, q, &d, &i, (respool_bytes){p.data, p.len});
  packer_free(&p);
}

static size_t end_damaged_segment(txn *t, queue *q, item_reader *c,
                                  const claim *from) {
  uint64_t *ids = malloc(SEGMENT_ITEMS * sizeof *ids);
  if (!ids) {
    txn_fail(t, RESPOOL_NOMEM);
    return 0;
  }
  size_t n = reader_unsettled(t, c, ids);
  if (n) {
    dead_letter_segment(t, q, c, ids, n, from);
    segments_settle(t, q, &c->line, ids, n);
  }
  q->counters.died += n;
  q->counters.damaged++;
  free(ids);
  return n;
}

/* Ends the last item of the page, whose bytes could not be read. */
static size_t end_damaged_item(txn *t, queue *q, item_reader *c,
                               const claim *from) {
  death d = death_of(from, "undecodable", c->now);
  d.error = phrase_of("the item's bytes are damaged");
  dead_letter_page(t, q, &c->line, c->page, c->page->n - 1, &d);
  c->page->n--;
  q->counters.died++;
  q->counters.damaged++;
  return 1;
}

size_t end_unreadable(txn *t, queue *q, item_reader *c, int what,
                      const claim *from) {
  size_t n;
  if (what == READ_BAD_ITEM)
    n = end_damaged_item(t, q, c, from);
  else {
    n = what == READ_EXPIRED ? end_expired_segment(t, q, c, from)
                             : end_damaged_segment(t, q, c, from);
    reader_skip_segment(c);
  }
  queue_changed(t, q);
  return n;
}

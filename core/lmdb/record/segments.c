/* SPDX-License-Identifier: MIT */
/*
 * Segments in the store. A segment exists as long as one of its items is not
 * settled. Once the first of them is, its bitmap in `remaining` says which are
 * left, and is the only record of that. A segment whose items expire has an
 * entry in `expiries`, as long as it exists.
 */
#include "lmdb/record/segments.h"

#include "lmdb/env/txn/cur.h"
#include "lmdb/record/blobs.h"
#include "lmdb/record/meta.h"

#include <string.h>

/* ---- reading ------------------------------------------------------------ */

static void read_unsettled(segment_cursor *w) {
  respool_bytes v;
  key k = segment_key(&w->at);
  w->has_bitmap = txn_get(w->c.t, DB_REMAINING, key_bytes(&k), &v);
  if (!w->has_bitmap ||
      !bits_unpack(key_bytes(&k), v, w->at.count, &w->unsettled))
    bits_fill(&w->unsettled, w->at.count);
}

/* Reads the key under the cursor, if it is of this line. A key that no segment
   can have is damage. */
static bool read_place(segment_cursor *w, place *p) {
  bool sound = segment_key_read(w->c.key, p);
  if (!same_line(&p->line, &w->at.line)) return false;
  if (!sound) txn_fail(w->c.t, RESPOOL_CORRUPT);
  return sound;
}

/* Reads the record under the cursor. */
static bool arrive(segment_cursor *w) {
  place p;
  if (!read_place(w, &p)) return false;
  w->at = p;
  w->value = w->c.value;
  read_unsettled(w);
  return true;
}

void segments_open(segment_cursor *w, txn *t, const line *l, uint64_t id) {
  cur_open(&w->c, t, DB_SEGMENTS);
  w->at = (place){*l, id, 0};
  w->unsettled.count = 0;
}

bool segments_read(const segment_cursor *w, segment *g) {
  key k = segment_key(&w->at);
  return segment_open(key_bytes(&k), w->value, g);
}

void segments_close(segment_cursor *w) {
  cur_close(&w->c);
}

/* The segment that holds an id is the last that begins at or before it. */
static bool first_segment(segment_cursor *w) {
  uint64_t id = w->at.first;
  place p = w->at;
  p.count = UINT16_MAX;
  key k = segment_key(&p);
  if (cur_floor(&w->c, key_bytes(&k)) && read_place(w, &p) &&
      place_last(&p) >= id)
    return arrive(w);
  k = segment_key(&w->at);
  return cur_seek(&w->c, key_bytes(&k)) && arrive(w);
}

bool segments_next(segment_cursor *w) {
  if (w->at.count == 0) return first_segment(w);
  return cur_next(&w->c) && arrive(w);
}

uint64_t first_unsettled(txn *t, const line *l, uint64_t from) {
  segment_cursor w;
  uint64_t found = UINT64_MAX;
  segments_open(&w, t, l, from);
  while (found == UINT64_MAX && segments_next(&w))
    for (uint32_t i = 0; i < w.at.count && found == UINT64_MAX; i++)
      if (w.at.first + i >= from && bits_has(&w.unsettled, i))
        found = w.at.first + i;
  segments_close(&w);
  return found;
}

uint64_t count_unsettled(txn *t, const line *l, uint64_t from, uint64_t upto) {
  uint64_t n = 0;
  segment_cursor w;
  segments_open(&w, t, l, from);
  while (segments_next(&w) && w.at.first <= upto)
    for (uint32_t i = 0; i < w.at.count; i++)
      n += w.at.first + i >= from && w.at.first + i <= upto &&
           bits_has(&w.unsettled, i);
  segments_close(&w);
  return n;
}

/* ---- appending ---------------------------------------------------------- */

static void put_expiry(txn *t, queue *q, const place *p, int64_t expires_at) {
  if (!expires_at) return;
  time_comes(&q->expires_from, expires_at);
  key k = expiry_key(p, expires_at);
  txn_put_null(t, DB_EXPIRIES, key_bytes(&k));
}

/* When a segment was pushed, and when it expires. */
typedef struct times {
  int64_t pushed_at, expires_at;
} times;

static void put_segment(txn *t, queue *q, const place *p,
                        respool_bytes bytes, const times *at) {
  key k = segment_key(p);
  uint8_t *to = txn_reserve(t, DB_SEGMENTS, key_bytes(&k), bytes.size);
  q->bytes += bytes.size;
  if (!to) return;
  memcpy(to, bytes.data, bytes.size);
  segment_seal(to, bytes.size, key_bytes(&k), at->pushed_at, at->expires_at);
  put_expiry(t, q, p, at->expires_at);
}

/* Numbers the blobs of the large items in a segment. */
static void put_large(txn *t, queue *q, const builder *b,
                      const built_segment *s, uint8_t *stored, size_t *next) {
  while (*next < b->n_large && b->large[*next].ref < s->at + s->size) {
    const large_item *g = &b->large[(*next)++];
    item_patch_ref(stored + (g->ref - s->at), meta_number(t, "last blob"));
    q->bytes += g->size;
  }
}

static void put_blobs(txn *t, const builder *b, const built_segment *s,
                      const uint8_t *stored, size_t next) {
  for (; next < b->n_large && b->large[next].ref < s->at + s->size; next++) {
    const large_item *g = &b->large[next];
    unpacker u;
    unpacker_init(&u, stored + (g->ref - s->at), ITEM_REF_SIZE);
    item i;
    blob_ref r;
    if (item_unpack(&u, &i, &r))
      blob_put(t, r.number, (respool_bytes){b->blobs.data + g->at, g->size});
  }
}

/* A stored value may lie in a page of this transaction that other writes move,
   so a segment with large items is completed in a copy before it is stored. */
static void append_large(txn *t, queue *q, const builder *b,
                         const built_segment *s, const place *p,
                         const times *at, size_t *next) {
  uint8_t copy[SEGMENT_BYTES];
  size_t first = *next;
  memcpy(copy, b->bytes.data + s->at, s->size);
  put_large(t, q, b, s, copy, next);
  put_blobs(t, b, s, copy, first);
  put_segment(t, q, p, (respool_bytes){copy, s->size}, at);
}

static void append_one(txn *t, queue *q, const builder *b,
                       const built_segment *s, const place *p,
                       const times *at, size_t *next) {
  respool_bytes bytes = {b->bytes.data + s->at, s->size};
  if (*next < b->n_large && b->large[*next].ref < s->at + s->size)
    append_large(t, q, b, s, p, at, next);
  else
    put_segment(t, q, p, bytes, at);
}

int segments_append(txn *t, queue *q, const append_req *r, const line *l,
                    uint64_t first, int64_t now, int64_t expires_at) {
  const builder *b = r->builder;
  times at = {now, expires_at};
  size_t next_large = 0;
  for (size_t i = 0; i < b->n_segments && !t->rc; i++) {
    const built_segment *s = &b->segments[i];
    place p = {*l, first, (uint32_t)s->count};
    if (s->parted) p.line.space = SPACE_PARTED;
    append_one(t, q, b, s, &p, &at, &next_large);
    first += s->count;
  }
  return t->rc;
}

void segment_put_one(txn *t, queue *q, const place *p, respool_bytes packed,
                     const respool_item_about *i) {
  builder b;
  builder_init(&b, i->version);
  builder_add_raw(&b, packed, false);
  int rc = builder_finish(&b);
  txn_fail(t, rc);
  times at = {i->pushed_at, i->expires_at};
  respool_bytes bytes = {b.bytes.data, b.bytes.len};
  if (!rc) put_segment(t, q, p, bytes, &at);
  builder_free(&b);
}

/* ---- settling ----------------------------------------------------------- */

static void delete_segment(segment_cursor *w, queue *q) {
  txn *t = w->c.t;
  key k = segment_key(&w->at);
  int64_t expires_at = segment_expiry(w->value);
  q->bytes -= w->value.size < q->bytes ? w->value.size : q->bytes;
  cur_del(&w->c);
  if (w->has_bitmap) txn_del(t, DB_REMAINING, key_bytes(&k));
  if (!expires_at) return;
  k = expiry_key(&w->at, expires_at);
  txn_del(t, DB_EXPIRIES, key_bytes(&k));
}

static void put_unsettled(segment_cursor *w) {
  key k = segment_key(&w->at);
  packer p;
  packer_init(&p);
  bits_pack(&p, &w->unsettled);
  record_put(w->c.t, DB_REMAINING, key_bytes(&k), &p);
  packer_free(&p);
}

/* Settles the `ids` that lie in this segment; returns their number. */
static size_t settle_here(segment_cursor *w, queue *q, const uint64_t *ids,
                          size_t n) {
  size_t here = 0;
  while (here < n && ids[here] <= place_last(&w->at)) here++;
  if (here == w->unsettled.set) { /* all that was left? */
    delete_segment(w, q);
    return here;
  }
  for (size_t i = 0; i < here; i++)
    if (ids[i] >= w->at.first)
      bits_clear(&w->unsettled, (uint32_t)(ids[i] - w->at.first));
  put_unsettled(w);
  return here;
}

void segments_settle(txn *t, queue *q, const line *l, const uint64_t *ids,
                     size_t n) {
  size_t i = 0;
  while (i < n && !t->rc) {
    segment_cursor w;
    segments_open(&w, t, l, ids[i]);
    bool found = segments_next(&w);
    if (found) i += settle_here(&w, q, ids + i, n - i);
    segments_close(&w);
    if (!found) break;
  }
}

/* ---- another item in the place of one ----------------------------------- */

/* A segment that is being replaced. */
typedef struct replacing {
  txn *t;
  queue *q;
  place at;
  packer stored; /* a copy of its bytes */
  bits unsettled;
  segment of;
} replacing;

/* Stores the items that `b` has as those from `i` on, where any is left. */
static void put_part(replacing *r, const builder *b, uint32_t i) {
  bits left;
  place p = {r->at.line, r->at.first + i, (uint32_t)b->n_items};
  times at = {r->of.pushed_at, r->of.expires_at};
  size_t next = 0;
  bits_fill(&left, p.count);
  for (uint32_t k = 0; k < p.count; k++)
    if (!bits_has(&r->unsettled, i + k)) bits_clear(&left, k);
  if (!left.set) return;
  append_one(r->t, r->q, b, b->segments, &p, &at, &next);
  if (left.set == left.count) return;
  key k = segment_key(&p);
  packer out;
  packer_init(&out);
  bits_pack(&out, &left);
  record_put(r->t, DB_REMAINING, key_bytes(&k), &out);
  packer_free(&out);
}

/* The next `n` items as they are. */
static void put_same(replacing *r, uint32_t from, uint32_t n) {
  builder b;
  builder_init(&b, r->of.version);
  for (uint32_t i = 0; i < n && !r->of.items.rc; i++)
    builder_add_raw(&b, unpack_skip(&r->of.items), IS_PARTED(&r->at.line));
  int rc = r->of.items.rc ? RESPOOL_CORRUPT : builder_finish(&b);
  txn_fail(r->t, rc);
  if (!rc && n) put_part(r, &b, from);
  builder_free(&b);
}

/* Reads the segment that holds the item and deletes it. */
static bool take_segment(replacing *r, const line *l, uint64_t id) {
  segment_cursor w;
  segments_open(&w, r->t, l, id);
  bool found = segments_next(&w) && w.at.first <= id;
  if (found) {
    key k = segment_key(&w.at);
    r->at = w.at;
    r->unsettled = w.unsettled;
    pack_raw(&r->stored, w.value.data, w.value.size);
    txn_fail(r->t, r->stored.rc);
    found = !r->t->rc &&
            segment_open(key_bytes(&k),
                         (respool_bytes){r->stored.data, r->stored.len},
                         &r->of);
  }
  if (found) delete_segment(&w, r->q);
  segments_close(&w);
  return found;
}

bool segment_replace(txn *t, queue *q, const line *l, uint64_t id,
                     const builder *b) {
  replacing r = {.t = t, .q = q};
  packer_init(&r.stored);
  bool found = take_segment(&r, l, id);
  if (found) {
    uint32_t i = (uint32_t)(id - r.at.first);
    put_same(&r, 0, i);
    put_part(&r, b, i);
    unpack_skip(&r.of.items);
    put_same(&r, i + 1, r.at.count - i - 1);
  }
  packer_free(&r.stored);
  return found;
}

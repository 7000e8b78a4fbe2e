/* SPDX-License-Identifier: MIT */
/*
 * Reading items out of segments: a segment is verified, and what is wanted of
 * it copied into the arena of a page; then the items are added to the page one
 * by one. Nothing in a page points into the map.
 */
#include "lmdb/record/item_reader.h"

#include "lmdb/record/blobs.h"
#include "lmdb/record/segments.h"

#include <string.h>

/* Fetches an item from its blob. */
static int fetch(txn *t, respool_page *p, blob_ref r, item *i) {
  unpacker u;
  char *into = r.size > SIZE_MAX ? NULL : arena_alloc(&p->memory, r.size);
  if (!into) {
    txn_fail(t, RESPOOL_NOMEM);
    return ITEM_SHORT;
  }
  if (!blob_get(t, r, into)) return ITEM_BAD;
  unpacker_init(&u, into, r.size);
  return item_unpack(&u, i, &r) && !r.number ? ITEM_OK : ITEM_BAD;
}

int item_read(txn *t, respool_page *p, unpacker *u, item *i,
              respool_bytes *packed) {
  blob_ref r;
  const uint8_t *start = u->at;
  if (!item_unpack(u, i, &r)) return ITEM_BAD;
  *packed = (respool_bytes){start, (size_t)(u->at - start)};
  return r.number ? fetch(t, p, r, i) : ITEM_OK;
}

/* Adds the next item of a segment to the page, a body alone, as most are. */
static int add_body(txn *t, item_reader *c, unpacker *u, uint64_t id) {
  const uint8_t *start = u->at;
  respool_bytes body = unpack_bytes(u);
  respool_bytes packed = {start, (size_t)(u->at - start)};
  respool_item *out = page_add(c->page, packed);
  if (!out) {
    txn_fail(t, RESPOOL_NOMEM);
    return READ_FULL;
  }
  *out = (respool_item){id, body, c->about};
  return u->rc ? READ_BAD_ITEM : READ_END;
}

/* Adds the next item of a segment to the page; a damaged one with an empty
   body. */
static int add_item(txn *t, item_reader *c, segment *g, uint64_t id) {
  item i;
  respool_bytes packed = {NULL, 0};
  if (item_is_body(&g->items)) return add_body(t, c, &g->items, id);
  int rc = item_read(t, c->page, &g->items, &i, &packed);
  if (rc == ITEM_SHORT) return READ_FULL;
  respool_item *out = page_add(c->page, packed);
  if (!out) {
    txn_fail(t, RESPOOL_NOMEM);
    return READ_FULL;
  }
  if (rc == ITEM_BAD) memset(&i, 0, sizeof i);
  if (!page_fill(c->page, out, id, c->about, &i)) {
    txn_fail(t, RESPOOL_NOMEM);
    return READ_FULL;
  }
  return rc == ITEM_BAD ? READ_BAD_ITEM : READ_END;
}

/* Would one more body exceed the byte limit? The first never does. */
static bool too_heavy(const item_reader *c, size_t size) {
  return c->bytes && c->weight + size > c->bytes && c->page->n > 1;
}

static int read_one(txn *t, item_reader *c, segment *g, uint64_t id) {
  int rc = add_item(t, c, g, id);
  if (rc == READ_FULL) return rc;
  size_t size = c->page->items[c->page->n - 1].body.size;
  if (rc == READ_END && too_heavy(c, size)) {
    c->page->n--;
    return READ_FULL;
  }
  c->weight += size;
  c->last = id;
  c->from = id + 1;
  if (rc == READ_END) c->got++;
  return rc;
}

/* Notes the fields that the items of a segment share, with those of the one
   before it where they were pushed together. */
static bool note_segment(txn *t, item_reader *c, const segment *g) {
  const respool_item_about *a = c->about;
  if (a && a->pushed_at == g->pushed_at && a->expires_at == g->expires_at &&
      a->version == g->version)
    return true;
  c->like.priority = c->line.priority;
  c->like.pushed_at = g->pushed_at;
  c->like.expires_at = g->expires_at;
  c->like.version = g->version;
  c->about = page_about(c->page, &c->like);
  if (!c->about) txn_fail(t, RESPOOL_NOMEM);
  return c->about;
}

static bool is_among(const item_reader *c, uint64_t id) {
  size_t low = 0, high = c->n_only;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (c->only[middle] < id)
      low = middle + 1;
    else
      high = middle;
  }
  return low < c->n_only && c->only[low] == id;
}

static bool wanted(const item_reader *c, const segment_cursor *w, uint64_t id) {
  return id >= c->from && id <= c->upto &&
         bits_has(&w->unsettled, (uint32_t)(id - w->at.first)) &&
         (!c->only || is_among(c, id));
}

/* Are all items of the segment wanted, as most takes have it? */
static bool all_wanted(const item_reader *c, const segment_cursor *w) {
  return !c->only && w->at.first >= c->from && place_last(&w->at) <= c->upto &&
         w->unsettled.set == w->at.count;
}

static bool any_wanted(const item_reader *c, const segment_cursor *w) {
  for (uint64_t id = w->at.first; id <= place_last(&w->at); id++)
    if (wanted(c, w, id)) return true;
  return false;
}

static bool verify(const segment_cursor *w, segment *g) {
  key k = segment_key(&w->at);
  return segment_open(key_bytes(&k), w->value, g) && g->count == w->at.count;
}

/* From the first to the last item that is wanted, as a page keeps what is
   copied; `*i` is the first. All, where they may be wanted. */
static respool_bytes find_wanted(const item_reader *c, const segment_cursor *w,
                                 const segment *g, uint32_t *i) {
  unpacker u = g->items;
  respool_bytes all = {u.at, (size_t)(u.end - u.at)}, some = {NULL, 0};
  uint64_t left = c->want - c->got;
  *i = 0;
  if (left >= g->count) return all;
  for (uint32_t k = 0; k < g->count && left; k++) {
    const uint8_t *at = u.at;
    unpack_skip(&u);
    if (!wanted(c, w, w->at.first + k)) continue;
    if (!some.data) {
      some.data = at;
      *i = k;
    }
    some.size = (size_t)(u.at - (const uint8_t *)some.data);
    left--;
  }
  if (!u.rc) return some;
  *i = 0;
  return all;
}

static bool copy_wanted(txn *t, item_reader *c, const segment_cursor *w,
                        segment *g, uint32_t *i) {
  respool_bytes copy, from = find_wanted(c, w, g, i);
  txn_fail(t, arena_copy(&c->page->memory, from, &copy));
  if (t->rc) return false;
  unpacker_init(&g->items, copy.data, copy.size);
  return true;
}

static int read_segment(txn *t, item_reader *c, const segment_cursor *w) {
  segment g;
  uint32_t i;
  c->at = w->at;
  if (!any_wanted(c, w)) return READ_END;
  if (c->got == c->want) return READ_FULL;
  if (!verify(w, &g)) return READ_DAMAGED;
  if (g.expires_at && g.expires_at <= c->now) return READ_EXPIRED;
  bool all = all_wanted(c, w);
  if (!copy_wanted(t, c, w, &g, &i) || !note_segment(t, c, &g))
    return READ_FULL;
  for (; i < w->at.count; i++) {
    uint64_t id = w->at.first + i;
    if (!all && !wanted(c, w, id)) {
      unpack_skip(&g.items);
      continue;
    }
    if (c->got == c->want) return READ_FULL;
    int rc = read_one(t, c, &g, id);
    if (rc != READ_END) return rc;
  }
  return READ_END;
}

int read_items(txn *t, item_reader *c) {
  segment_cursor w;
  int rc = READ_END;
  segments_open(&w, t, &c->line, c->from);
  while (rc == READ_END && segments_next(&w) && w.at.first <= c->upto)
    rc = read_segment(t, c, &w);
  segments_close(&w);
  return t->rc ? READ_FULL : rc;
}

void reader_skip_segment(item_reader *c) {
  uint64_t end = place_last(&c->at);
  c->last = end < c->upto ? end : c->upto;
  c->from = c->last + 1;
}

size_t reader_unsettled(txn *t, const item_reader *c, uint64_t *ids) {
  segment_cursor w;
  size_t n = 0;
  segments_open(&w, t, &c->line, c->at.first);
  if (segments_next(&w) && w.at.first == c->at.first)
    for (uint64_t id = w.at.first; id <= place_last(&w.at); id++)
      if (wanted(c, &w, id)) ids[n++] = id;
  segments_close(&w);
  return n;
}

/* SPDX-License-Identifier: MIT */
/*
 * Building and reading of segments; see segment.h for the layout.
 */
#include "record/segment.h"

#include "base/array.h"
#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

/* Places of the fixed fields. */
#define AT_SUM 1
#define AT_BODY 10 /* all from here is under the checksum */
#define AT_KEY 12
#define AT_PUSHED (AT_KEY + SEGMENT_KEY)
#define AT_EXPIRES (AT_PUSHED + 9)
#define AT_VERSION (AT_EXPIRES + 9)

#define COUNT_SIZE 3 /* an array head with a 16-bit count */
#define ITEM_MAX (SEGMENT_BYTES - 64) /* packed larger: a blob */

static void write64(uint8_t *at, uint64_t v) {
  for (int i = 0; i < 8; i++) at[i] = (uint8_t)(v >> (56 - 8 * i));
}

static uint64_t read64(const uint8_t *at) {
  uint64_t v = 0;
  for (int i = 0; i < 8; i++) v = v << 8 | at[i];
  return v;
}

/* ---- reading ----------------------------------------------------------- */

static uint64_t sum_of(respool_bytes key, const uint8_t *b, size_t n) {
  return XXH3_64bits_withSeed(b + AT_BODY, n - AT_BODY,
                              XXH3_64bits(key.data, key.size));
}

static bool sum_holds(respool_bytes key, const uint8_t *b, size_t n) {
  return n > AT_BODY && b[0] == 0x87 && b[AT_SUM] == 0x1b &&
         read64(b + AT_SUM + 1) == sum_of(key, b, n);
}

/* Reads without verifying. */
static bool read_segment(respool_bytes stored, segment *g) {
  unpacker *u = &g->items;
  unpacker_init(u, stored.data, stored.size);
  unpack_array(u);
  unpack_uint(u);
  uint64_t format = unpack_uint(u);
  unpack_bytes(u);
  g->pushed_at = unpack_int(u);
  g->expires_at = unpack_int(u);
  g->version = unpack_uint(u);
  g->count = unpack_array(u);
  return u->rc == 0 && format == SEGMENT_FORMAT;
}

bool segment_open(respool_bytes key, respool_bytes stored, segment *g) {
  return sum_holds(key, stored.data, stored.size) && read_segment(stored, g);
}

respool_bytes segment_own_key(respool_bytes stored) {
  const uint8_t *b = stored.data;
  if (stored.size < AT_PUSHED || b[AT_KEY - 1] != 0x40 + SEGMENT_KEY)
    return (respool_bytes){NULL, 0};
  return (respool_bytes){b + AT_KEY, SEGMENT_KEY};
}

int64_t segment_expiry(respool_bytes stored) {
  if (stored.size < AT_VERSION) return 0;
  return (int64_t)read64((const uint8_t *)stored.data + AT_EXPIRES + 1);
}

/* ---- building ---------------------------------------------------------- */

void builder_init(builder *b, uint64_t payload_version) {
  memset(b, 0, sizeof *b);
  packer_init(&b->bytes);
  packer_init(&b->blobs);
  b->version = payload_version;
}

void builder_free(builder *b) {
  packer_free(&b->bytes);
  packer_free(&b->blobs);
  free(b->segments);
  free(b->large);
  builder_init(b, 0);
}

/* Where the items of the last segment begin. */
static uint8_t *count_place(const builder *b, const built_segment *s) {
  size_t version = b->version < 24 ? 1 : b->version < 256 ? 2
                   : b->version < 65536 ? 3 : b->version >> 32 ? 9 : 5;
  return b->bytes.data + s->at + AT_VERSION + version;
}

static void close_segment(builder *b) {
  if (b->rc || b->bytes.rc || !b->n_segments) return;
  built_segment *s = &b->segments[b->n_segments - 1];
  uint8_t *count = count_place(b, s);
  count[0] = 0x99;
  count[1] = (uint8_t)(s->count >> 8);
  count[2] = (uint8_t)s->count;
  s->size = b->bytes.len - s->at;
}

static void open_segment(builder *b, bool parted) {
  close_segment(b);
  if (!array_grow(&b->segments, b->n_segments, 1, &b->cap_segments,
                  sizeof *b->segments))
    b->rc = RESPOOL_NOMEM;
  if (b->rc) return;
  b->segments[b->n_segments++] = (built_segment){b->bytes.len, 0, 0, parted};
  b->parted = b->parted || parted;
  static const uint8_t key[SEGMENT_KEY];
  pack_array(&b->bytes, 7);
  pack_fixed(&b->bytes, 0);
  pack_uint(&b->bytes, SEGMENT_FORMAT);
  pack_bytes(&b->bytes, key, sizeof key);
  pack_fixed(&b->bytes, 0);
  pack_fixed(&b->bytes, 0);
  pack_uint(&b->bytes, b->version);
  packer_grow(&b->bytes, COUNT_SIZE);
}

/* Begins another segment if the last one has no room for `n` more bytes, or for
   items of this kind. */
static void need(builder *b, size_t n, bool parted) {
  built_segment *s = b->n_segments ? &b->segments[b->n_segments - 1] : NULL;
  if (!s || s->count == SEGMENT_ITEMS || s->parted != parted ||
      b->bytes.len - s->at + n > SEGMENT_BYTES)
    open_segment(b, parted);
}

static void count_one(builder *b) {
  if (b->rc) return;
  b->segments[b->n_segments - 1].count++;
  b->n_items++;
}

/* Adds a reference to the item packed in the blobs from `at` on. */
static void add_ref(builder *b, size_t at, bool parted) {
  if (!array_grow(&b->large, b->n_large, 1, &b->cap_large, sizeof *b->large))
    b->rc = RESPOOL_NOMEM;
  need(b, ITEM_REF_SIZE, parted);
  if (b->rc) return;
  large_item *g = &b->large[b->n_large++];
  *g = (large_item){b->bytes.len, at, b->blobs.len - at};
  item_pack_ref(&b->bytes, (blob_ref){0, g->size});
  count_one(b);
}

void builder_expect(builder *b, uint64_t bytes, uint64_t n) {
  uint64_t heads = n * 3 + (bytes / SEGMENT_BYTES + 2) * 64;
  if (n > 1 && bytes / n < ITEM_MAX) packer_reserve(&b->bytes, bytes + heads);
}

void builder_add(builder *b, const item *i) {
  size_t bound = item_bound(i), at = b->blobs.len;
  bool parted = i->partition.size > 0;
  b->body_bytes += i->body.size;
  if (bound > ITEM_MAX) {
    item_pack(&b->blobs, i);
    add_ref(b, at, parted);
    return;
  }
  need(b, bound, parted);
  item_pack(&b->bytes, i);
  count_one(b);
}

void builder_add_body(builder *b, respool_bytes body) {
  size_t bound = body.size + ITEM_HEADS_MAX;
  if (bound > ITEM_MAX) {
    builder_add(b, &(item){.body = body});
    return;
  }
  b->body_bytes += body.size;
  need(b, bound, false);
  pack_bytes(&b->bytes, body.data, body.size);
  count_one(b);
}

bool builder_try(builder *b, const item *i) {
  builder before = *b;
  uint64_t count = b->n_segments ? b->segments[b->n_segments - 1].count : 0;
  builder_add(b, i);
  if (!b->rc && !b->bytes.rc && !b->blobs.rc) return true;
  b->rc = b->bytes.rc = b->blobs.rc = 0;
  b->bytes.len = before.bytes.len;
  b->blobs.len = before.blobs.len;
  b->n_segments = before.n_segments;
  b->n_large = before.n_large;
  b->n_items = before.n_items;
  b->parted = before.parted;
  if (b->n_segments) b->segments[b->n_segments - 1].count = count;
  return false;
}

void builder_add_raw(builder *b, respool_bytes packed, bool parted) {
  need(b, packed.size, parted);
  pack_raw(&b->bytes, packed.data, packed.size);
  count_one(b);
}

int builder_finish(builder *b) {
  close_segment(b);
  return b->rc ? b->rc : b->bytes.rc ? b->bytes.rc : b->blobs.rc;
}

/* The size of the packed item `raw`, or of the next large item, if `raw` is its
   reference. */
static uint64_t item_bytes(const builder *b, respool_bytes raw, size_t *next) {
  const large_item *g = *next < b->n_large ? &b->large[*next] : NULL;
  if (!g || b->bytes.data + g->ref != (const uint8_t *)raw.data)
    return raw.size;
  ++*next;
  return raw.size + g->size;
}

void builder_items(const builder *b, respool_bytes *items) {
  for (size_t i = 0; i < b->n_segments; i++) {
    const built_segment *s = &b->segments[i];
    const uint8_t *at = count_place(b, s) + COUNT_SIZE;
    unpacker u;
    unpacker_init(&u, at, (size_t)(b->bytes.data + s->at + s->size - at));
    for (uint64_t k = 0; k < s->count; k++) *items++ = unpack_skip(&u);
  }
}

uint64_t builder_largest(const builder *b) {
  uint64_t largest = 0, head = 0;
  size_t next = 0;
  for (size_t i = 0; i < b->n_segments; i++) {
    const built_segment *s = &b->segments[i];
    segment g;
    read_segment((respool_bytes){b->bytes.data + s->at, s->size}, &g);
    head = (uint64_t)(g.items.at - (b->bytes.data + s->at));
    for (uint64_t j = 0; j < g.count; j++) {
      uint64_t n = item_bytes(b, unpack_skip(&g.items), &next);
      if (n > largest) largest = n;
    }
  }
  return head + largest;
}

/* Opens the next segment where one has ended; false at the end. */
static bool go_on(const builder *b, builder_cursor *c) {
  while (!c->left) {
    segment g;
    if (c->segment == b->n_segments) return false;
    const built_segment *s = &b->segments[c->segment++];
    read_segment((respool_bytes){b->bytes.data + s->at, s->size}, &g);
    c->items = g.items;
    c->left = g.count;
  }
  c->left--;
  return true;
}

/* The large item whose reference lies here; NULL: there is none. */
static const large_item *large_at(const builder *b, builder_cursor *c,
                                  const uint8_t *place) {
  const large_item *g = c->large < b->n_large ? &b->large[c->large] : NULL;
  if (!g || b->bytes.data + g->ref != place) return NULL;
  c->large++;
  return g;
}

bool builder_next(const builder *b, builder_cursor *c,
                  respool_bytes *packed) {
  if (!go_on(b, c)) return false;
  *packed = unpack_skip(&c->items);
  const large_item *g = large_at(b, c, packed->data);
  if (g) *packed = (respool_bytes){b->blobs.data + g->at, g->size};
  return true;
}

static void unpack_item(const void *packed, size_t size, item *i) {
  unpacker u;
  blob_ref r;
  unpacker_init(&u, packed, size);
  item_unpack(&u, i, &r);
}

bool builder_next_item(const builder *b, builder_cursor *c, item *i) {
  blob_ref r;
  if (!go_on(b, c)) return false;
  const large_item *g = large_at(b, c, c->items.at);
  item_unpack(&c->items, i, &r); /* or the reference */
  if (g) unpack_item(b->blobs.data + g->at, g->size, i);
  return true;
}

static size_t body_size(const void *packed, size_t size) {
  item i;
  unpack_item(packed, size, &i);
  return i.body.size;
}

/* Adds the packed item `raw` of another builder, whose next large item is `g`;
   true when `raw` was the reference to it. */
static bool copy_item(builder *to, const builder *from, respool_bytes raw,
                      const large_item *g, bool parted) {
  size_t at = to->blobs.len;
  const uint8_t *place = raw.data;
  if (!g || from->bytes.data + g->ref != place) {
    to->body_bytes += body_size(raw.data, raw.size);
    builder_add_raw(to, raw, parted);
    return false;
  }
  const uint8_t *packed = from->blobs.data + g->at;
  to->body_bytes += body_size(packed, g->size);
  pack_raw(&to->blobs, packed, g->size);
  add_ref(to, at, parted);
  return true;
}

int builder_split(const builder *from, uint64_t n, builder *first,
                  builder *rest) {
  size_t k = 0;
  for (size_t i = 0; i < from->n_segments; i++) {
    const built_segment *s = &from->segments[i];
    segment g;
    read_segment((respool_bytes){from->bytes.data + s->at, s->size}, &g);
    for (uint64_t j = 0; j < g.count; j++) {
      builder *to = first->n_items < n ? first : rest;
      const large_item *next = k < from->n_large ? &from->large[k] : NULL;
      k += copy_item(to, from, unpack_skip(&g.items), next, s->parted);
      if (to->rc) return to->rc;
    }
  }
  int rc = builder_finish(first);
  return rc ? rc : builder_finish(rest);
}

void segment_seal(uint8_t *bytes, size_t size, respool_bytes key,
                  int64_t pushed_at, int64_t expires_at) {
  memcpy(bytes + AT_KEY, key.data, SEGMENT_KEY);
  write64(bytes + AT_PUSHED + 1, (uint64_t)pushed_at);
  write64(bytes + AT_EXPIRES + 1, (uint64_t)expires_at);
  write64(bytes + AT_SUM + 1, sum_of(key, bytes, size));
}

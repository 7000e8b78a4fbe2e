/* SPDX-License-Identifier: MIT */
/*
 * A segment: the stored form of consecutive items, immutable, at most four
 * LMDB pages with their header. One CBOR array:
 *
 *   [checksum, format, key, pushed_at, expires_at, payload version,
 *    [item, ...]]
 *
 * The first five fields and the count of items have fixed places, so that
 * they can be written once the commit knows them. The key is that under which
 * the segment is stored. The checksum is XXH3-64 of all bytes behind it, its
 * seed XXH3-64 of the key (xxHash 0.8).
 *
 * A builder makes the segments of a push, back to back; the commit seals them.
 */
#ifndef SEGMENT_H
#define SEGMENT_H

#include "record/item.h"

#define SEGMENT_BYTES 16368 /* 4 * 4096 less LMDB's page header */
#define SEGMENT_ITEMS 4096
#define SEGMENT_FORMAT 2
#define SEGMENT_KEY 16 /* bytes */

typedef struct segment {
  int64_t pushed_at, expires_at; /* expires_at 0: never */
  uint64_t version;              /* of the payload */
  uint64_t count;
  unpacker items;                /* positioned at the first */
} segment;

/* Reads and verifies what is stored under a key; false when it is damaged or
   belongs under another key. Borrows from the input. */
bool segment_open(respool_bytes key, respool_bytes stored, segment *g);

/* The key that it says is its own; data NULL: it says none. */
respool_bytes segment_own_key(respool_bytes stored);

/* Reads the expiry time alone, without verifying. */
int64_t segment_expiry(respool_bytes stored);

typedef struct built_segment {
  size_t at, size; /* in builder.bytes */
  uint64_t count;
  bool parted; /* its items are of partitions, else none is */
} built_segment;

typedef struct large_item {
  size_t ref;      /* of its reference, in builder.bytes */
  size_t at, size; /* of the packed item, in builder.blobs */
} large_item;

typedef struct builder {
  packer bytes, blobs;
  built_segment *segments;
  size_t n_segments, cap_segments;
  large_item *large;
  size_t n_large, cap_large;
  uint64_t n_items;
  uint64_t body_bytes; /* of all their bodies */
  uint64_t version;
  bool parted; /* some segments are */
  int rc; /* sticky: RESPOOL_NOMEM */
} builder;

void builder_init(builder *b, uint64_t payload_version);
void builder_free(builder *b);

/* A hint: `n` items of so many bytes in all will be added. */
void builder_expect(builder *b, uint64_t bytes, uint64_t n);
void builder_add(builder *b, const item *i);
void builder_add_body(builder *b, respool_bytes body); /* and nothing else */

/* The same; false when out of memory, with the builder unchanged. */
bool builder_try(builder *b, const item *i);

/* Adds an item, or a reference, that is packed already; of a partition? */
void builder_add_raw(builder *b, respool_bytes packed, bool parted);

/* Ends the last segment; 0 or RESPOOL_NOMEM. */
int builder_finish(builder *b);

/* The packed form of each item, in the builder's memory: room for n_items.
   After builder_finish; none may be large. */
void builder_items(const builder *b, respool_bytes *items);

/* The bytes that the largest item would take alone. After builder_finish. */
uint64_t builder_largest(const builder *b);

/* Where a walk over the items of a builder stands; zero it to begin. */
typedef struct builder_cursor {
  size_t segment, large;
  uint64_t left; /* items of the open segment */
  unpacker items;
} builder_cursor;

/* The next item, packed; false at the end. After builder_finish. */
bool builder_next(const builder *b, builder_cursor *c, respool_bytes *packed);

/* The same, unpacked. */
bool builder_next_item(const builder *b, builder_cursor *c, item *i);

/* Copies the first `n` items to one new builder, the others to another. After
   builder_finish. 0 or RESPOOL_NOMEM. */
int builder_split(const builder *from, uint64_t n, builder *first,
                  builder *rest);

/* Writes the key, of SEGMENT_KEY bytes, the times and the checksum into the
   bytes of a segment. */
void segment_seal(uint8_t *bytes, size_t size, respool_bytes key,
                  int64_t pushed_at, int64_t expires_at);

#endif

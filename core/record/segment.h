/* SPDX-License-Identifier: MIT */
/*
 * A segment: the stored form of consecutive items, immutable, at most four
 * LMDB pages with their header. One CBOR array:
 *
 *   [checksum, format, pushed_at, expires_at, payload version, [item, ...]]
 *
 * The first four and the count of items have fixed places, so that they can
 * be written when the commit knows them. The checksum is XXH3-64 (xxHash
 * 0.8, seed 0) of all bytes behind it.
 *
 * A batch is what one push becomes: its segments back to back, sealed later.
 */
#ifndef SEGMENT_H
#define SEGMENT_H

#include "record/item.h"

#define SEGMENT_BYTES 16368 /* 4 * 4096 less LMDB's page header */
#define SEGMENT_ITEMS 4096
#define SEGMENT_FORMAT 1

typedef struct segment {
  int64_t pushed_at, expires_at; /* expires_at 0: never */
  uint64_t version;              /* of the payload */
  uint64_t count;
  unpacker items;                /* at the first */
} segment;

/* Reads and verifies; false when damaged. Borrows from the input. */
bool segment_open(respool_bytes stored, segment *g);

/* The expiry time alone, without verifying. */
int64_t segment_expiry(respool_bytes stored);

typedef struct built_segment {
  size_t at, size; /* in batch.bytes */
  uint64_t count;
} built_segment;

typedef struct large_item {
  size_t ref;      /* of its reference, in batch.bytes */
  size_t at, size; /* of the packed item, in batch.blobs */
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
  int rc; /* sticky: RESPOOL_NOMEM */
} builder;

void builder_init(builder *b, uint64_t payload_version);
void builder_free(builder *b);

/* `n` items of so many bytes together are about to be added. A hint. */
void builder_expect(builder *b, uint64_t bytes, uint64_t n);
void builder_add(builder *b, const item *i);

/* The same, but for want of memory the batch stays as it was: false. */
bool builder_try(builder *b, const item *i);

/* An item that is packed already, a reference among them. */
void builder_add_raw(builder *b, respool_bytes packed);

/* Ends the last segment; 0 or RESPOOL_NOMEM. */
int builder_end(builder *b);

/* The bytes that its largest item would take in a batch of its own; of an
   ended batch. */
uint64_t builder_largest(const builder *b);

/* Copies an ended batch: the first `n` items to one, the rest to another,
   both new. 0 or RESPOOL_NOMEM. */
int builder_split(const builder *from, uint64_t n, builder *first,
                  builder *rest);

/* Writes the times and the checksum into a copy of a span's bytes. */
void segment_seal(uint8_t *bytes, size_t size, int64_t pushed_at,
                  int64_t expires_at);

#endif

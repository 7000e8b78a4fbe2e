/* SPDX-License-Identifier: MIT */
/*
 * An item as bytes: what a segment holds for each of its items, and a
 * dead letter for its one. Their CBOR heads distinguish the forms:
 *
 *   bytes                                       the body, nothing else
 *   [body, headers, replays, original, key]     all but the body and
 *                                               replays may be null; original
 *                                               is bytes of the body's codec,
 *                                               or [bytes, codec or null]
 *   [body, codec, origin]                       of a codec other than CBOR, or
 *   [body, headers, replays, original, key,     first pushed elsewhere: an
 *    codec, origin]                             origin is null, or
 *                                               [queue, id, pushed_at]
 *   [body, codec, origin, partition]            of a partition, or both of
 *   [body, headers, replays, original, key,     these
 *    codec, origin, partition]
 *   [blob, size]                                a blob of either above
 *   [bytes]                                     a damaged segment of a dead
 *                                               letter, which has no item
 */
#ifndef ITEM_H
#define ITEM_H

#include "cbor/packer.h"
#include "cbor/unpacker.h"

typedef struct item {
  respool_bytes body, headers, original, key, codec, original_codec;
  respool_bytes partition;
  uint64_t replays;
  respool_origin origin;
} item;

/* The blob of an item that is too large for a segment. */
typedef struct blob_ref {
  uint64_t number; /* 0: no blob */
  uint64_t size;   /* of the packed item */
} blob_ref;

/* Shows `i`, but for its body, in a respool_item_about or a
   respool_dead_letter: both have its fields, by the same names. */
#define ITEM_SHOW(out, i) \
  do { \
    (out)->headers = (i)->headers; \
    (out)->original = (i)->original; \
    (out)->original_codec = (i)->original_codec; \
    (out)->key = (i)->key; \
    (out)->codec = (i)->codec; \
    (out)->replays = (i)->replays; \
    (out)->origin = (i)->origin; \
    (out)->partition = (i)->partition; \
  } while (0)

/* Is it a body and nothing else? */
bool item_is_bare(const item *i);

/* An upper bound of the packed size. */
size_t item_bound(const item *i);
#define ITEM_HEADS_MAX 115 /* of the longest form together */

void item_pack(packer *p, const item *i);
void item_pack_ref(packer *p, blob_ref r); /* ITEM_REF_SIZE bytes */

/* Sets the number of a reference that was packed before it was known. */
void item_patch_ref(uint8_t *ref, uint64_t number);

/* Reads one item of any form: a reference to `*r`, the others to `*i`, which
   borrows from the input. False when it is none. */
bool item_unpack(unpacker *u, item *i, blob_ref *r);

/* Is the next item of the first form? Asked for each item, hence inline. */
static inline bool item_is_body(const unpacker *u) {
  return u->at < u->end && *u->at >> 5 == CBOR_BYTES;
}

/* The bytes of a damaged segment. */
void item_pack_damaged(packer *p, respool_bytes segment);
bool item_unpack_damaged(respool_bytes packed, respool_bytes *segment);

#define ITEM_REF_SIZE 19

#endif

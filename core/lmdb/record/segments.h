/* SPDX-License-Identifier: MIT */
/*
 * Segments in the store: reading them in the order of ids, appending, and
 * taking settled items out.
 */
#ifndef SEGMENTS_H
#define SEGMENTS_H

#include "lmdb/env/txn/cur.h"
#include "lmdb/record/records.h"

/* Reads the segments of a line, from the one that holds `id` or the next
   behind it. */
typedef struct segment_cursor {
  cur c;
  place at;            /* this segment */
  respool_bytes value;
  bits unsettled; /* its unsettled items */
  bool has_bitmap;
} segment_cursor;

void segments_open(segment_cursor *w, txn *t, const line *l, uint64_t id);
void segments_close(segment_cursor *w);
bool segments_next(segment_cursor *w); /* also to the first; false at the end */

/* Reads and verifies the segment there, borrowed from the map. */
bool segments_read(const segment_cursor *w, segment *g);

/* The first unsettled id at or behind `from`; UINT64_MAX: none. */
uint64_t first_unsettled(txn *t, const line *l, uint64_t from);

/* The number of unsettled ids from `from` to `upto`. */
uint64_t count_unsettled(txn *t, const line *l, uint64_t from, uint64_t upto);

/* Stores a push; its ids begin at `first`. Items of partitions go to their own
   space. */
int segments_append(txn *t, queue *q, const append_req *r, const line *l,
                    uint64_t first, int64_t now, int64_t expires_at);

/* Takes items out of their segments: `ids` rise and are unsettled. A segment
   that becomes empty is deleted. */
void segments_settle(txn *t, queue *q, const line *l, const uint64_t *ids,
                     size_t n);

/* Puts another item, the one of `b`, into the place of an unsettled one; its
   segment becomes up to three. False when the segment is damaged. The old
   item's blob stays. */
bool segment_replace(txn *t, queue *q, const line *l, uint64_t id,
                     const builder *b);

/* Stores a segment of one item, packed already. */
void segment_put_one(txn *t, queue *q, const place *p, respool_bytes packed,
                     const respool_item_about *i);

#endif

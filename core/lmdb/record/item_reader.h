/* SPDX-License-Identifier: MIT */
/*
 * Items out of segments: copies the unsettled items of a range of ids to a
 * page.
 */
#ifndef ITEM_READER_H
#define ITEM_READER_H

#include "lmdb/record/records.h"
#include "record/page.h"

enum { ITEM_OK, ITEM_BAD, ITEM_SHORT /* of memory: t->rc */ };

/* Reads one packed item, from its blob if it has one. */
int item_read(txn *t, respool_page *p, unpacker *u, item *i,
              respool_bytes *packed);

typedef struct item_reader {
  respool_page *page;
  line line;
  respool_item_about like; /* for all items, but the segment's fields */
  const respool_item_about *about; /* the page's copy, for the segment */
  uint64_t from, upto; /* the range; from moves on */
  const uint64_t *only; /* of the range only these `n_only`, which rise; NULL:
                           all of it */
  size_t n_only;
  uint64_t want;       /* items at most */
  uint64_t bytes;      /* of bodies at most, but one item; 0: no bound */
  int64_t now;         /* segments that expired by then stop the reader */
  uint64_t got, weight;
  uint64_t last;       /* the last id that was passed */
  place at;            /* the segment the reader stopped in */
} item_reader;

/* Why the reader stopped. At EXPIRED and DAMAGED the segment `at` is not
   passed: end its items and skip it, or stop. A BAD_ITEM is passed: it is the
   last of the page and not counted in `got`. */
enum { READ_END, READ_FULL, READ_EXPIRED, READ_DAMAGED, READ_BAD_ITEM };
int read_items(txn *t, item_reader *c);
void reader_skip_segment(item_reader *c);

/* The unsettled ids of segment `at` that lie in the range: their number, and
   the ids in `ids`, SEGMENT_ITEMS long. */
size_t reader_unsettled(txn *t, const item_reader *c, uint64_t *ids);

#endif

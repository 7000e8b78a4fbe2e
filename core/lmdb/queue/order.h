/* SPDX-License-Identifier: MIT */
/*
 * Strict order: the items of a priority by id.
 */
#ifndef ORDER_H
#define ORDER_H

#include "lmdb/record/records.h"

/* A source of items in a priority: its earliest item, and its last id. */
typedef struct source {
  uint64_t id, last;
  place claim; /* of new items only the line */
  int64_t due;
  bool is_new, leased;
} source;

/* The earliest source, if `first.id` is not UINT64_MAX, and where another
   begins. */
typedef struct sources {
  source first;
  uint64_t second;
} sources;

/* The priority's sources from id `from` on. */
sources find_sources(txn *t, const queue *q, const priority_state *l,
                     uint64_t from);

/* When the priority's earliest item may be delivered; 0: at once, INT64_MAX:
   it has none. */
int64_t order_due(txn *t, const queue *q, const priority_state *l);

#endif

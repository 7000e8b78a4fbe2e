/* SPDX-License-Identifier: MIT */
/*
 * The recent records of a damaged store, in memory: they are in the place of
 * those with their keys in TREE_STATE. See lmdb/env/txn/recent.h.
 */
#ifndef OVERLAY_H
#define OVERLAY_H

#include <stdbool.h>

#include "base/arena.h"

typedef struct overlay_record {
  respool_bytes key; /* in the tree */
  respool_bytes value;
} overlay_record;

typedef struct overlay {
  arena memory;
  overlay_record *of;
  size_t n, cap;
  bool sorted; /* by the first call of overlay_has */
} overlay;

/* Copies a record; false when out of memory. */
bool overlay_add(overlay *o, respool_bytes key, respool_bytes value);
bool overlay_has(overlay *o, respool_bytes key);
void overlay_free(overlay *o);

#endif

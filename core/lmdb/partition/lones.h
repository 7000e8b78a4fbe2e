/* SPDX-License-Identifier: MIT */
/*
 * Lone items: each is all that its partition has, and nothing bounds that. They
 * have no record of a partition, but a line in a group of neighbouring names,
 * so that pushes and settles of many write few records.
 */
#ifndef LONES_H
#define LONES_H

#include "lmdb/record/partition_record.h"

typedef struct lone {
  respool_bytes name; /* of the partition */
  uint64_t id;
  int priority;
  bool found; /* an answer */
} lone;

/* Sorts by name, then id. */
void lones_sort(lone **list, size_t n);

/* Adds those of a sorted list, of different names, whose name is not there; the
   others are `found`. */
void lones_add(txn *t, queue *q, lone **list, size_t n);

/* Removes those of a sorted list that are there, by name and id: they are
   `found`. */
void lones_remove(txn *t, queue *q, lone **list, size_t n);

/* The lone item of a partition; false: it has none. The name is that given. */
bool lone_find(txn *t, queue *q, respool_bytes name, lone *found);

/* Calls `each` for those whose names come behind `after`, in their order, until
   it returns false. Returns 0, CORRUPT or NOMEM. */
int lones_each(txn *t, const queue *q, respool_bytes after,
               bool (*each)(void *arg, const lone *x), void *arg);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Lone items: each is all that its partition has, and nothing bounds that. They
 * have no record of a partition; where one is by its name is found in runs, so
 * that pushes of many write few records, and their end writes none.
 */
#ifndef LONES_H
#define LONES_H

#include "lmdb/partition/lone_runs.h"

/* Sorts by name, then id. */
void lones_sort(lone **list, size_t n);

/* Adds those of a sorted list, of different names without a record, whose name
   is not there; the others are `found`. */
void lones_add(txn *t, queue *q, lone **list, size_t n);

/* One has ended, or its partition has a record now. */
void lones_end(txn *t, queue *q);

/* The lone item of a partition without a record; false: it has none. */
bool lone_find(txn *t, queue *q, respool_bytes name, lone *found);

/* Calls `each` for those whose names come behind `after`, in their order, until
   it returns false. Returns 0, CORRUPT or NOMEM. */
int lones_each(txn *t, const queue *q, respool_bytes after,
               bool (*each)(void *arg, const lone *x), void *arg);

/* The transaction is over. */
void lones_settle(txn *t, bool committed);

#endif

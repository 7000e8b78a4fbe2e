/* SPDX-License-Identifier: MIT */
/*
 * The partitions of a queue: which items of each are ready, leased or waiting.
 */
#ifndef PARTITIONS_H
#define PARTITIONS_H

#include "lmdb/partition/set.h"

/* NULL: it is not there. */
partition *partition_find(txn *t, queue *q, respool_bytes name);

/* NULL: out of memory. */
partition *partition_make(txn *t, queue *q, respool_bytes name);

/* INVALID: a queue is to be ordered and to have partitions. */
int partitions_unordered(const queue *q);

/* The items of a push come to their partitions. */
void partitions_push(txn *t, queue *q, const append_req *r, uint64_t first,
                     bool waits);

/* One item goes from one state to another: COUNT_NONE: it comes, or it goes.
   Those of space PARTED_SOLO are alone in their segments. */
void partition_move(txn *t, queue *q, const line *l, const respool_item *i,
                    enum count from, enum count to);

/* An item of space PARTED ends that a take was about to deliver: no line has
   its id any more, but it may be lone. */
void partition_end_given(txn *t, queue *q, const line *l,
                         const respool_item *i);

/* An item that is not as it was pushed goes to a segment and a claim of its
   own, like `c`, and is ready there. */
void partition_park(txn *t, queue *q, const line *l, const claim *c,
                    const respool_page *page, size_t i);

/* The turn of its lone item becomes one of a line, of which the item is the
   first then; NULL: out of memory. */
partition_line *partition_adopt(txn *t, queue *q, partition *p);

/* Its lone item, if that is ready, loses its own turn, as something bounds the
   partition now: it becomes one of a line. */
void partition_end_lone(txn *t, queue *q, partition *p);

/* Deletes all that is stored of partitions, `limit` records at most; true when
   there may be more. The queue has no items. */
bool partitions_drop(txn *t, queue *q, size_t limit);

/* Has any partition items? If not, what is left of partitions goes: holds, and
   the like. */
bool partitions_remain(txn *t, queue *q);

/* Stores what has changed, and forgets what was loaded. */
void partitions_store(txn *t);
void partitions_forget(txn *t, bool committed);

#endif

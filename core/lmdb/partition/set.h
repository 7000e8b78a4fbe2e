/* SPDX-License-Identifier: MIT */
/*
 * The partitions that a transaction has loaded: changed in memory, and stored
 * when it commits.
 */
#ifndef PARTITION_SET_H
#define PARTITION_SET_H

#include "lmdb/queue/claims.h"
#include "lmdb/record/partition_record.h"

/* Those loaded; NULL: out of memory. */
partition_set *partitions_of(txn *t, queue *q);

/* One that is loaded, or NULL; and one more, empty, or NULL: out of memory. */
partition *partition_loaded(const partition_set *s, respool_bytes name);
partition *partition_add(txn *t, partition_set *s, respool_bytes name);

/* Changed: it is to be stored. */
void partition_changed(txn *t, queue *q, partition *p);

/* Its items of a priority; NULL: out of memory. */
partition_line *partition_line_make(txn *t, queue *q, partition *p,
                                    int priority);

/* Its items leased. */
uint64_t partition_leased(txn *t, const queue *q, const partition *p);

/* Is its lone item ready or leased? COUNT_NONE: it has none. */
enum count partition_lone(txn *t, const queue *q, const partition *p);

#endif

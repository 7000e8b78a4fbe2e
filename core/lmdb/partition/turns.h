/* SPDX-License-Identifier: MIT */
/*
 * The turns of partitions: who is served next.
 */
#ifndef PARTITION_TURNS_H
#define PARTITION_TURNS_H

#include "lmdb/record/partition_record.h"

/* May no item of the line be taken before a lease of the partition ends, or an
   earlier item is over? */
bool line_is_blocked(txn *t, const queue *q, const partition *p,
                     const partition_line *l);

/* When it is to be looked at again; 0: not by time. */
void partition_set_due(txn *t, queue *q, partition *p, int64_t at);

/* Gives its lines turns, where they have items and nothing is in the way. */
void partition_line_up(txn *t, queue *q, partition *p);

/* Gives a turn behind all others. */
void turn_give(txn *t, queue *q, partition_turn turn);

/* Stores the turns that were given; every take begins with that. */
void turns_store(txn *t, queue *q);

/* Puts turns before all others. */
void turns_put_first(txn *t, queue *q, const partition_turn *list, size_t n);

#endif

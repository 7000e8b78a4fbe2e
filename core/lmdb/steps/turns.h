/* SPDX-License-Identifier: MIT */
/*
 * Taking from partitions, by turns.
 */
#ifndef TURNS_H
#define TURNS_H

#include "lmdb/steps/deliver.h"

/* Delivers from the partitions that have a turn in a priority, a fair share of
   the batch from each. */
void deliver_turns(take_run *run, int priority);

/* How many partitions have a turn in a priority, `most` at most. */
uint64_t turns_count(txn *t, const queue *q, int priority, uint64_t most);

/* When something of partitions is to be taken: 0 now; INT64_MAX: not by time.
   Claims are not looked at. */
int64_t turns_due(txn *t, const queue *q);

/* Deletes the first turns of the queue's priorities, as far as those are of
   what has ended, and looks at `limit` turns at most; true when there may be
   more. */
bool turns_sweep(txn *t, queue *q, size_t limit);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Items of partitions that are leased or wait, counted anew: where some end
 * that cannot be read, nobody knows of which partitions they were.
 */
#ifndef RECOUNT_H
#define RECOUNT_H

#include "lmdb/record/partition_record.h"

/* Sets what each partition of the queue counts to what the claims have of it,
   and gives turns to those that may be served by that. Looks at all of them. */
void partitions_recount(txn *t, queue *q);

#endif

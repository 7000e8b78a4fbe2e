/* SPDX-License-Identifier: MIT */
/*
 * The flow of partitions: holds, rates and breakers, kept in their records.
 */
#ifndef PARTITION_FLOW_H
#define PARTITION_FLOW_H

#include "lmdb/queue/flow.h"
#include "lmdb/record/partition_record.h"

/* Its flow, made where it has none; NULL: out of memory. */
flow *partition_flow(txn *t, queue *q, partition *p);

/* The bounds of the partitions have changed: those that wait are looked at
   again. */
void partitions_policy(txn *t, queue *q, const queue_config *from);

/* Before the claims of a batch are settled: notes the marks of its items in
   the flows of their partitions. Which outages spend no attempt, for each item
   of the batch, at least as `least` has it; in the batch's arena. */
const uint8_t *partitions_settle(txn *t, queue *q, int64_t now,
                                 const settle_req *r, enum excuse least);

/* The lease of a claim that begins at a place was extended. */
void partitions_extended(txn *t, queue *q, const place *p, uint64_t last,
                         int64_t until);

int lmdb_partition_hold(txn *t, const char *name, int64_t wall,
                        respool_bytes of, int64_t ms, respool_bytes why);

#endif

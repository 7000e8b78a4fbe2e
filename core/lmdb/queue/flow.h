/* SPDX-License-Identifier: MIT */
/*
 * The flow of queues: holds, rates and breakers, kept in the queue's record.
 */
#ifndef LMDB_FLOW_H
#define LMDB_FLOW_H

#include "engine.h"
#include "lmdb/record/records.h"

/* Does anything bound what is taken from it? */
static inline bool queue_has_flow(const queue *q) {
  return q->flow || config_has_flow(&q->config);
}

/* How many items of the queue may be taken now; of 0, when to look again. */
uint64_t queue_allows(const queue *q, int64_t now, int64_t *due);

/* `n` items were taken under a lease up to `until`. */
void queue_taken(txn *t, queue *q, int64_t now, uint64_t n, int64_t until);

/* A lease of the queue was extended. */
void queue_extended(txn *t, queue *q, int64_t until);

/* Before the claims of a batch are settled: notes their marks. Which failures
   that are outages spend no attempt. */
enum excuse queue_settles(txn *t, queue *q, int64_t now, settle_req *r);

/* Of a flow in which the marks of a settle are noted: where the breaker has
   opened, failures of earlier settles get their attempts back. */
void flow_end_settle(txn *t, queue *q, flow *f, arena *a);

int lmdb_queue_hold(txn *t, const char *name, int64_t wall, int64_t ms,
                    respool_bytes why);
int lmdb_queue_flow(txn *t, const char *name, int64_t wall, respool_flow *out);

/* The policy has changed. */
void queue_flow_policy(txn *t, queue *q, const queue_config *from,
                       int64_t now);

#endif

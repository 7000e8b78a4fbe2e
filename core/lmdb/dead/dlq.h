/* SPDX-License-Identifier: MIT */
/*
 * DLQs: their records, counts and bounds.
 */
#ifndef DLQ_H
#define DLQ_H

#include "lmdb/record/records.h"

dlq *dlq_find(txn *t, const char *name);
dlq *dlq_make(txn *t, const char *name);
void dlqs_store(txn *t); /* those that changed */
void dlqs_free(txn *t);
void dlq_stat(txn *t, const char *name, respool_queue_stats *out);

/* Those who bury for a queue say so: its bounds hold for its own DLQ, of
   several queues the least. */
void dlq_bound(dlq *x, const queue_config *c);

/* Removes up to `most` of the oldest dead letters of a queue's own DLQ that are
   beyond its bounds; how many, and whether there are more. */
uint64_t dlq_trim(txn *t, const queue_config *c, size_t most, bool *more);

/* The bytes of a dead letter: its record and its blob. */
uint64_t dead_weight(respool_bytes k, respool_bytes v);

/* Removes a dead letter; `v` is its record. */
void dead_remove(txn *t, dlq *x, uint64_t number, respool_bytes v);

/* The same without its blob, which `weight` counts, too. */
void dead_delete(txn *t, dlq *x, uint64_t number, uint64_t weight);

#endif

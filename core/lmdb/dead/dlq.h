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

/* The bytes of a run: its record and the blobs of its dead letters. */
uint64_t dead_run_weight(respool_bytes k, respool_bytes v);

/* Adds a dead letter, under the next number, which it gets. */
void dlq_add_dead(txn *t, dlq *x, dead *l);
void dlq_store_run(txn *t, dlq *x); /* those that were added */

/* ---- removing ----------------------------------------------------------- */

/* A copy of a record. */
typedef struct stored_run {
  key key;
  uint64_t last, count;
  packer value; /* zero it before the first, free it after the last */
} stored_run;

/* The run that has a number, or the first behind it; without one `s` stays as
   it was. */
bool dead_run_find(txn *t, const dlq *x, uint64_t number, stored_run *s);

typedef struct numbers {
  const uint64_t *at;
  size_t n;
} numbers;

enum blob_fate { BLOBS_GO, BLOBS_STAY };

/* Removes dead letters of a run, whose numbers rise; how many of the numbers
   it had. A damaged one goes as a whole with its last. */
uint64_t dead_run_remove(txn *t, dlq *x, const stored_run *s, numbers gone,
                    enum blob_fate blobs);

/* Removes the dead letters of these numbers, in whatever order; how many there
   were. */
uint64_t dead_remove(txn *t, dlq *x, numbers gone);

#endif

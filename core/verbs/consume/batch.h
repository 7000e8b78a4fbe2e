/* SPDX-License-Identifier: MIT */
/*
 * The batch's handle, and what a take asks for.
 */
#ifndef VERBS_BATCH_H
#define VERBS_BATCH_H

#include "verbs/queue/queue.h"

int batch_check(respool_batch *batch); /* 0, BUSY, or as store_check */

respool_batch *batch_new(respool_queue *q); /* NULL: fail() was called */
void batch_destroy(respool_batch *batch); /* with no ticket at work on it */

/* Frees what was kept of batches that were destroyed, for those to come. */
void batch_free_kept(respool *s);

/* A ticket works on the batch from now on, or does not any more. */
void batch_attach(respool_batch *batch, respool_ticket *t);
void batch_detach(respool_batch *batch);

/* The mark that an outcome makes, its texts kept in the batch. */
int batch_make_mark(respool_batch *batch, size_t i, const respool_outcome *o,
                    mark *m);

/* After a settle with these marks: what is settled is not settled again, what
   is lost is not tried again. */
void batch_close_claims(respool_batch *batch, const mark *marks);

/* The claim that holds item `i`. */
batch_claim *batch_claim_of(const respool_batch *batch, size_t i);

int take_check(const respool_take_options *o);
step take_step(const respool_take_options *o, respool_batch *batch);

#endif

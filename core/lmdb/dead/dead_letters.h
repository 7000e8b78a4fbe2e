/* SPDX-License-Identifier: MIT */
/*
 * DLQs and dead letters.
 */
#ifndef DEAD_LETTERS_H
#define DEAD_LETTERS_H

#include "lmdb/record/records.h"

/* Writes a dead letter for an item of a queue. */
void dlq_add(txn *t, queue *q, const death *d, const respool_item *i,
             respool_bytes packed);

dlq *dlq_find(txn *t, const char *name);
dlq *dlq_make(txn *t, const char *name);
void dlqs_store(txn *t); /* those that changed */
void dlqs_free(txn *t);
void dead_delete(txn *t, dlq *x, uint64_t number); /* not its blob */

int lmdb_dead_list(txn *t, const char *dlq, const respool_list_options *o,
                   respool_dead_letters *l);
int lmdb_dead_count(txn *t, const char *dlq, uint64_t *n);
int lmdb_dead_remove(txn *t, const char *dlq, const uint64_t *numbers,
                     size_t n, uint64_t *removed);
int lmdb_dead_purge(txn *t, const char *dlq, const respool_purge_options *o,
                    size_t limit, uint64_t *after, uint64_t *removed,
                    bool *more);

#endif

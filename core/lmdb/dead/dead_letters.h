/* SPDX-License-Identifier: MIT */
/*
 * Dead letters.
 */
#ifndef DEAD_LETTERS_H
#define DEAD_LETTERS_H

#include "lmdb/dead/dlq.h"

/* Items of a queue that die alike, one after the other, in one step: begun with
   the first, whose time and version the others have. False after an error. */
typedef struct burial {
  dlq *to;
  dead l;
  int reason; /* its number; -1: it is not counted */
} burial;

bool burial_begin(txn *t, queue *q, const death *d, const respool_item *i,
                  burial *b);
void burial_add(txn *t, queue *q, burial *b, uint64_t id,
                respool_bytes packed);

/* Writes a dead letter for an item of a queue. */
void dlq_add(txn *t, queue *q, const death *d, const respool_item *i,
             respool_bytes packed);

int lmdb_dead_list(txn *t, const char *dlq, const respool_list_options *o,
                   respool_dead_letters *l);
int lmdb_dead_count(txn *t, const char *dlq, uint64_t *n);
int lmdb_dead_remove(txn *t, const char *dlq, const uint64_t *numbers,
                     size_t n, uint64_t *removed);
int lmdb_dead_purge(txn *t, const char *dlq, const respool_purge_options *o,
                    size_t limit, uint64_t *after, uint64_t *removed,
                    bool *more);

#endif

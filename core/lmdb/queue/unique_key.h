/* SPDX-License-Identifier: MIT */
/*
 * Keys that callers chose.
 */
#ifndef UNIQUE_KEY_H
#define UNIQUE_KEY_H

#include "lmdb/record/records.h"

typedef struct holder {
  uint64_t id;
  int64_t until; /* end of its window; 0: none */
} holder;

/* Is the key in use, by an unsettled item or within its window? */
bool unique_held(txn *t, const queue *q, respool_bytes name, int64_t now,
                 holder *h);
void unique_hold(txn *t, const queue *q, respool_bytes name, holder h);

/* The item is settled; its key is free unless its window goes on. */
void unique_release(txn *t, const queue *q, const respool_item *i,
                    int64_t now);

/* Forgets windows that have closed; true when there are more. */
bool unique_sweep(txn *t, queue *q, int64_t now, int limit);

#endif

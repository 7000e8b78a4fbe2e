/* SPDX-License-Identifier: MIT */
/*
 * Keys that callers chose.
 */
#ifndef UNIQUE_KEY_H
#define UNIQUE_KEY_H

#include "lmdb/record/records.h"

/* Is the key in use, by an unsettled item or within its window? */
bool key_in_use(txn *t, const queue *q, respool_bytes name, int64_t now,
                key_owner *h);
void key_assign(txn *t, queue *q, respool_bytes name, key_owner h);

/* The item is settled; its key is free unless its window goes on. */
void key_release(txn *t, const queue *q, const respool_item *i, int64_t now);

/* Forgets windows that have closed; true when there are more. */
uint64_t key_sweep(txn *t, queue *q, int64_t now, uint64_t limit);

#endif

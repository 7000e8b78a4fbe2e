/* SPDX-License-Identifier: MIT */
/*
 * History: finished items that a queue keeps.
 */
#ifndef LMDB_HISTORY_H
#define LMDB_HISTORY_H

#include "lmdb/record/records.h"

void history_keep(txn *t, queue *q, const respool_item *i,
                  respool_bytes packed, respool_bytes result, int64_t now);
void history_keep_cancelled(txn *t, queue *q, const respool_item *i,
                            respool_bytes packed, int64_t now);

/* The blob of a record of the history; number 0 when it has none. */
blob_ref history_blob(respool_bytes k, respool_bytes v);

/* Deletes items beyond the queue's time or bytes, or all of them; returns
   their number. `limit` is lowered by it. */
uint64_t history_sweep(txn *t, queue *q, int64_t now, int *limit);
uint64_t history_drop(txn *t, queue *q, int *limit);

int lmdb_history(txn *t, const char *name, respool_history_cursor *at,
                 size_t limit, respool_page *p);

#endif

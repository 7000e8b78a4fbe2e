/* SPDX-License-Identifier: MIT */
/*
 * Results: when a finished item was done, and what its handler returned, by its
 * id. They come and go with the items of the history.
 */
#ifndef RESULTS_H
#define RESULTS_H

#include "lmdb/env/txn/txn.h"
#include "lmdb/record/records.h"
#include "record/page.h"

void result_keep(txn *t, const queue *q, uint64_t id, int64_t done_at,
                 respool_bytes result);
void result_forget(txn *t, const queue *q, uint64_t id);
uint64_t result_size(txn *t, const queue *q, uint64_t id); /* 0: none */

/* An item with the result as its body, done at visible_at. NOT_FOUND. */
int lmdb_result(txn *t, const char *name, uint64_t id, respool_page *p);

#endif

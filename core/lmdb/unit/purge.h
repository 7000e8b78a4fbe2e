/* SPDX-License-Identifier: MIT */
/*
 * Removing items on request.
 */
#ifndef PURGE_H
#define PURGE_H

#include "lmdb/record/records.h"

/* Removes an unsettled item; false when it is leased. */
bool item_remove(txn *t, queue *q, const line *l, uint64_t id, int64_t now);

int lmdb_remove(txn *t, const char *name, int64_t wall, uint64_t id);
int lmdb_purge(txn *t, const char *name, int64_t wall, size_t limit,
               uint64_t *removed, bool *more);

#endif

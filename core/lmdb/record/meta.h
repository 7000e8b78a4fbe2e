/* SPDX-License-Identifier: MIT */
/*
 * The store's own records: its id, the numbers it gives out, its figures.
 */
#ifndef META_H
#define META_H

#include "lmdb/env/txn/txn.h"

/* The next number under a name, 1, 2, ...; the last one is stored. */
uint64_t meta_number(txn *t, const char *name);

/* A row of `n` numbers under a name, such as the position up to which the
   journal is applied; all are 0 when there is none. */
void meta_row_get(txn *t, const char *name, uint64_t *row, size_t n);
void meta_row_put(txn *t, const char *name, const uint64_t *row, size_t n);

/* A number that rises with each write, for health checks. */
int lmdb_probe_write(txn *t, uint64_t *number);
int lmdb_probe_read(txn *t, uint64_t *number);

/* The store's id; zeros when it has none that can be read. */
void meta_store(txn *t, uint8_t id[16]);

int lmdb_stat(txn *t, respool_store_stats *out);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Maintenance of a store: expired items, old dead letters and history end.
 */
#ifndef MAINTAIN_H
#define MAINTAIN_H

#include "lmdb/env/txn/txn.h"

/* Ends expired items, keys, history and dead letters of a queue, up to
   `limit` records of each. */
int lmdb_maintain(txn *t, const char *name, int64_t wall, size_t limit,
                  respool_maintenance *out);

/* Frees the reader slots of processes that have ended. */
int lmdb_free_readers(env *e, respool_maintenance *out);

#endif

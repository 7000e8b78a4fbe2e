/* SPDX-License-Identifier: MIT */
/*
 * Looking at items without taking them.
 */
#ifndef BROWSE_H
#define BROWSE_H

#include "lmdb/env/txn.h"

int lmdb_peek(txn *t, const char *name, int64_t wall, size_t limit,
              respool_page *p);
int lmdb_get(txn *t, const char *name, int64_t wall, uint64_t id,
             respool_page *p);
int lmdb_get_key(txn *t, const char *name, int64_t wall, respool_bytes own_name,
                 respool_page *p);
/* Over in LMDB when the phase is PHASE_END. */
#define PHASE_END 2
int lmdb_browse(txn *t, const char *name, int64_t wall, int state,
                size_t limit, respool_cursor *at, respool_page *p);
int lmdb_leases(txn *t, const char *name, int64_t wall, struct leases *out);

/* Is the item leased under the token, by a lease that has not been given to
   another since? */
int lmdb_held(txn *t, const char *name, uint64_t id, uint64_t token,
              bool *yes);

#endif

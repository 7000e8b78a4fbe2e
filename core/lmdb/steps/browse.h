/* SPDX-License-Identifier: MIT */
/*
 * Looking at items without taking them.
 */
#ifndef BROWSE_H
#define BROWSE_H

#include "lmdb/env/txn/txn.h"

int lmdb_peek(txn *t, const char *name, int64_t wall, size_t limit,
              respool_page *p);
int lmdb_get(txn *t, const char *name, int64_t wall, uint64_t id,
             respool_page *p);
int lmdb_get_key(txn *t, const char *name, int64_t wall, respool_bytes own_name,
                 respool_page *p);
/* Over in LMDB when the phase becomes PHASE_END: then `id` and `at`, where it
   is to go on and to end, are LMDB's next id. */
#define PHASE_END 3
int lmdb_browse(txn *t, const char *name, int64_t wall, int state,
                size_t limit, respool_cursor *at, respool_page *p);

/* The first item from this id on, by id; UINT64_MAX: there is none. */
uint64_t lmdb_browse_next(txn *t, const char *name, uint64_t from);

/* Adds an item that is in this state. */
int lmdb_browse_item(txn *t, const char *name, int64_t wall, int state,
                     uint64_t id, respool_page *p);

int lmdb_leases(txn *t, const char *name, int64_t wall, struct leases *out);

/* Is the item leased under the token, by a lease that has not been given to
   another since? */
int lmdb_held(txn *t, const char *name, uint64_t id, uint64_t token,
              bool *yes);

#endif

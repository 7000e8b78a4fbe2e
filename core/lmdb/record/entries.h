/* SPDX-License-Identifier: MIT */
/*
 * Entries: bytes of the library's own under a kind and a name.
 */
#ifndef LMDB_ENTRIES_H
#define LMDB_ENTRIES_H

#include "lmdb/env/txn/txn.h"

/* [name, revision, bytes] of each of the kind, or of the one of that name. */
int lmdb_entries(txn *t, int kind, const char *name, packer *out);

/* Saves one, or removes it; LOCKED when it is at another revision. */
int lmdb_entry_save(txn *t, const char *name, const entry_req *r);

/* The same without a look at revisions, which these entries do without. */
void entry_put(txn *t, int kind, const char *name, respool_bytes bytes);
void entry_del(txn *t, int kind, const char *name);

/* Borrowed from the map; false where there is none, and with `*rc` set where
   it is damaged. */
bool entry_get(txn *t, int kind, const char *name, respool_bytes *bytes,
               int *rc);

#endif

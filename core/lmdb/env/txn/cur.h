/* SPDX-License-Identifier: MIT */
/*
 * Cursors, over the records of a table in the order of their keys.
 */
#ifndef CUR_H
#define CUR_H

#include "lmdb/env/txn/txn.h"

/* A move returns false when there is no record there, and leaves key
   and value as they were. Close it before the transaction ends. */
typedef struct cur {
  txn *t;
  MDB_cursor *mdb;
  int table; /* its number, where several share the tree; else -1 */
  respool_bytes key, value;
} cur;

void cur_open(cur *c, txn *t, enum db db);
void cur_open_tree(cur *c, txn *t, int which); /* keys as they lie there */
void cur_close(cur *c);
bool cur_first(cur *c);
bool cur_seek(cur *c, respool_bytes key);  /* first at or after */
bool cur_floor(cur *c, respool_bytes key); /* last at or before */
bool cur_next(cur *c);
bool cur_prev(cur *c);
void cur_del(cur *c); /* the record under it; then seek again, or next */

/* The first record at or after a key, and the last at or before it; false
   when there is none. */
bool txn_seek(txn *t, enum db db, respool_bytes from, respool_bytes *key,
              respool_bytes *value);
bool txn_floor(txn *t, enum db db, respool_bytes from, respool_bytes *key,
               respool_bytes *value);

#endif

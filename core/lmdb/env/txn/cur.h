/* SPDX-License-Identifier: MIT */
/*
 * Cursors, over the records of a table in the order of their keys. In a table
 * that shares its trees a cursor goes over both, the recent records in the
 * place of those beneath them; see recent.h.
 */
#ifndef CUR_H
#define CUR_H

#include "lmdb/env/txn/txn.h"

/* Where the cursor of a tree is, as seen from the last record. */
enum cur_place { CUR_LOST, CUR_ON, CUR_BEHIND, CUR_AT_END };

typedef struct cur_side {
  MDB_cursor *mdb;
  enum cur_place place;
  MDB_val k, v; /* there, unless it is lost or at the end */
} cur_side;

/* A move returns false when there is no record there, and leaves key
   and value as they were. Close it before the transaction ends. */
typedef struct cur {
  txn *t;
  int table; /* its number, where several share the trees; else -1 */
  cur_side over, under; /* in TREE_RECENT, or none; in the tree */
  uint64_t changes;     /* of the transaction, at the last move */
  MDB_val last;         /* the key of the last record, in `room` */
  tree_key room;
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

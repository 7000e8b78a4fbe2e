/* SPDX-License-Identifier: MIT */
/*
 * A store of an older format, read by a migration that is alone with it. Its
 * databases are opened by their names then.
 */
#ifndef OLD_STORE_H
#define OLD_STORE_H

#include "lmdb/env/txn/txn.h"

typedef struct old_store {
  const char *path;
  MDB_env *mdb;
  MDB_txn *t;
  int rc; /* sticky */
} old_store;

int old_open(old_store *s, const char *path, int dirfd);
void old_close(old_store *s);

/* One record; false when there is none, or no such database. */
bool old_get(old_store *s, const char *name, respool_bytes key,
             respool_bytes *value);

/* The records of a database in order. */
typedef struct old_cur {
  old_store *s;
  MDB_cursor *mdb;
  respool_bytes key, value;
} old_cur;

void old_cur_open(old_cur *c, old_store *s, const char *name);
void old_cur_close(old_cur *c);
bool old_seek(old_cur *c, respool_bytes key); /* first at or behind */
bool old_next(old_cur *c); /* also to the first */

#endif

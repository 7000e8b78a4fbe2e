/* SPDX-License-Identifier: MIT */
/*
 * Opening and closing LMDB's environment.
 */
#ifndef LMDB_OPEN_H
#define LMDB_OPEN_H

#include "lmdb/env/txn/txn.h"

/* The environment, with its directory locked, then its databases. `look` is
   called in the transaction that opens these, or makes them in a new store;
   its writes are committed with them. A failure leaves the environment
   closed; LOCK_STALE asks for another try of both. */
#define LOCK_STALE (-1002) /* none of LMDB's numbers, nor of ours */
int txn_env_open(lmdb_env *e);
int txn_env_use(lmdb_env *e, int (*look)(txn *t, bool fresh));
void txn_env_close(lmdb_env *e);

/* Makes a whole store, durably, in a file that no other process knows of;
   `look` is called as above. The environment is closed again. */
int txn_env_make(lmdb_env *e, const char *file,
                 int (*look)(txn *t, bool fresh));

/* The same, but it stays open, unsynced: the caller flushes the file. */
int txn_env_make_open(lmdb_env *e, const char *file,
                      int (*look)(txn *t, bool fresh));

/* Opens without locks, to be copied, when no other process can have the store
   open. */
int txn_env_open_alone(lmdb_env *e);

const char *db_name(enum db db);
const char *tree_name(int which);

#endif

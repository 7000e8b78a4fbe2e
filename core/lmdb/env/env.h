/* SPDX-License-Identifier: MIT */
/*
 * Open environments: the registry of this process, and the transactions of
 * LMDB alone. Operations on queues use unit/unit.h, which also keeps the
 * states of queues.
 */
#ifndef ENV_H
#define ENV_H

#include "lmdb/env/txn.h"

/* As the engine's open; `g` is the engine, with `beside` or NULL. Without
   `first` it is opened for a copy, and not by the verbs. FORMAT_OLD
   (create.h): the store has an older format. */
int env_open(const engine *g, const env_beside *beside, const char *path,
             const respool_options *o, int (*first)(env *e), env **e);
void env_close(env *e);

/* Begins a transaction; reopens the environment first where it must be. */
int env_begin(env *e, bool write, txn **t);
void env_end(txn *t); /* frees it, after txn_commit or txn_abort */

int env_sync(env *e);

/* Keeps the environment open until env_release; false when it is not, or not
   the store any more. */
bool env_hold(env *e);
void env_release(env *e);

/* 0, or IO when the store was deleted or replaced: see files_check. For calls
   that need no transaction. */
int env_check(env *e, int how);

uint64_t env_last(env *e);          /* number of the last commit */
bool env_is_open(int dirfd);        /* by this process or another */

/* Opens a store's directory and locks it against opening; LOCKED when the
   store is open in this process. */
int store_lock_exclusive(const char *path, int *dirfd);


#endif

/* SPDX-License-Identifier: MIT */
/*
 * An environment: opened, used by transactions, closed. After an I/O error it
 * is closed and opened again before it is used: the data then on disk is the
 * outcome. Operations on queues use unit/unit.h, which also keeps the states of
 * queues.
 */
#ifndef ENV_H
#define ENV_H

#include "lmdb/env/txn/txn.h"

/* One for this path, not opened yet; NULL without memory. */
lmdb_env *env_new(const char *path, const respool_options *o);
void env_free(lmdb_env *e);

/* Opens it, with its files. FORMAT_OLD (create.h): the store has an older
   format. */
int env_start(lmdb_env *e);

/* Ends the use of files that are not the store any more, without which those
   in their place could not be opened safely: LMDB's locks on them would end
   with this environment. */
void env_retire(lmdb_env *e);

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

uint64_t env_last(env *e); /* number of the last commit */

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The open environments of this process. LMDB lets a process open one
 * environment twice and then loses its locks, so there is one registry, by
 * device and inode, counted, behind a mutex.
 */
#ifndef REGISTRY_H
#define REGISTRY_H

#include "engine.h"
#include "lmdb/env/txn/txn.h"

/* As the engine's open; `g` is the engine, with `beside` or NULL. Without
   `first` it is opened for a copy, and not by the verbs. FORMAT_OLD
   (create.h): the store has an older format. */
int env_open(const engine *g, const env_beside *beside, const char *path,
             const respool_options *o, int (*first)(env *e), env **e);
void env_close(env *e);

bool env_is_open(int dirfd); /* by this process or another */

/* Opens a store's directory and locks it against opening; LOCKED when the
   store is open in this process. */
int store_lock_exclusive(const char *path, int *dirfd);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * A store whose writer's turn in LMDB is taken by the spec: what is to be
 * committed waits, in the order in which it came, until it is given back.
 */
#ifndef HELD_H
#define HELD_H

#include "holds.h"

#include "lmdb/env/txn/txn.h"
#include "verbs/store/store.h"

static inline MDB_txn *hold_commits(respool *s) {
  MDB_txn *t = NULL;
  HOLDS(mdb_txn_begin(((lmdb_env *)s->env)->mdb, NULL, 0, &t) == 0);
  return t;
}

static inline void let_commits_go(MDB_txn *held) {
  mdb_txn_abort(held);
}

#endif

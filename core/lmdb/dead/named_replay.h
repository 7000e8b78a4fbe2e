/* SPDX-License-Identifier: MIT */
/*
 * The records of named replays.
 */
#ifndef NAMED_REPLAY_H
#define NAMED_REPLAY_H

#include "lmdb/env/txn/txn.h"

int lmdb_replay_load(txn *t, const char *name, respool_replay *out);

/* Stores `replay` with the next revision; LOCKED when the stored record is at
   another one, or gone. */
int lmdb_replay_save(txn *t, const respool_replay *replay);
int lmdb_replay_cancel(txn *t, const char *name);
int lmdb_replay_remove(txn *t, const char *name);

#endif

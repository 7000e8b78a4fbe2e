/* SPDX-License-Identifier: MIT */
/*
 * Replay: dead letters become items again.
 */
#ifndef LMDB_REPLAY_H
#define LMDB_REPLAY_H

#include "lmdb/env/txn/txn.h"

int lmdb_dead_move(txn *t, int64_t wall, move_req *r);

#endif

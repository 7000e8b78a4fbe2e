/* SPDX-License-Identifier: MIT */
/*
 * The journal of an environment: opened before LMDB, with the store's
 * directory locked, and started with the position that LMDB has applied.
 */
#ifndef LMDB_BESIDE_H
#define LMDB_BESIDE_H

#include "lmdb/env/txn/txn.h"

extern const env_beside lmdb_beside;

#endif

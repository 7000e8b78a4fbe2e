/* SPDX-License-Identifier: MIT */
/*
 * Checking the invariants.
 */
#ifndef CHECK_H
#define CHECK_H

#include "lmdb/env/txn/txn.h"

int lmdb_check(txn *t, packer *findings);

#endif

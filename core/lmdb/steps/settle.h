/* SPDX-License-Identifier: MIT */
/*
 * Settle: the outcomes of a batch.
 */
#ifndef LMDB_SETTLE_H
#define LMDB_SETTLE_H

#include "lmdb/env/txn/txn.h"

int lmdb_settle(txn *t, const char *name, int64_t wall, settle_req *r);

#endif

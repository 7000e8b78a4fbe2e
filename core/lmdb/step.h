/* SPDX-License-Identifier: MIT */
/*
 * One step of a unit, within the transaction of its group.
 */
#ifndef LMDB_STEP_H
#define LMDB_STEP_H

#include "lmdb/env/txn/txn.h"

/* Runs it. A push that may be refused alone notes its refusal, and is 0. */
int lmdb_step(txn *t, unit *u, step *s, int64_t now);

#endif

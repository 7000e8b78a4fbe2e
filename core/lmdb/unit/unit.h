/* SPDX-License-Identifier: MIT */
/*
 * Units: transactions over queues and DLQs. Their states are loaded once,
 * stored at commit, and kept for the next transaction.
 */
#ifndef UNIT_H
#define UNIT_H

#include "lmdb/env/txn/txn.h"

int unit_begin(env *e, bool write, txn **t);
int unit_commit(txn *t); /* ends it, also on failure */
void unit_abort(txn *t);

#endif

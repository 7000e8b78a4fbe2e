/* SPDX-License-Identifier: MIT */
/*
 * Units: transactions over queues and DLQs. Their states are loaded once,
 * stored at commit, and kept for the next transaction.
 */
#ifndef UNIT_H
#define UNIT_H

#include "lmdb/record/records.h"

int unit_begin(env *e, bool write, txn **t);

int unit_commit(txn *t); /* ends it, also on failure */
void unit_abort(txn *t);

/* A queue as commit `*as_of`, the last one, left it, if this process made that
   and had it loaded; else NULL. The caller holds the environment, and no other
   thread writes. */
const queue *unit_known(lmdb_env *e, const char *name, size_t *as_of);

#endif

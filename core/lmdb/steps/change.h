/* SPDX-License-Identifier: MIT */
/*
 * Changes of one item on request.
 */
#ifndef CHANGE_H
#define CHANGE_H

#include "lmdb/record/records.h"

/* NOT_FOUND; BUSY while the item is leased; else by the kind of change. */
int lmdb_change(txn *t, const char *name, int64_t wall, change_req *r);

#endif

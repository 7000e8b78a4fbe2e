/* SPDX-License-Identifier: MIT */
/*
 * Append: pushed items.
 */
#ifndef APPEND_H
#define APPEND_H

#include "lmdb/record/records.h"

int lmdb_fits(txn *t, const char *name, append_req *r);
int lmdb_append(txn *t, const char *name, int64_t wall, append_req *r);

#endif

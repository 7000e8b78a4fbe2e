/* SPDX-License-Identifier: MIT */
/*
 * Dead letters counted by group and reason.
 */
#ifndef GROUPS_H
#define GROUPS_H

#include "lmdb/env/txn/txn.h"

int lmdb_dead_groups(txn *t, const char *dlq, int64_t now, packer *out);

#endif

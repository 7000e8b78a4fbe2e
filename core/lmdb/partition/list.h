/* SPDX-License-Identifier: MIT */
/*
 * The partitions of a queue, one after another, by name or by size.
 */
#ifndef PARTITION_LIST_H
#define PARTITION_LIST_H

#include "lmdb/record/partition_record.h"

int lmdb_partitions(txn *t, const char *name, int64_t wall, partitions_req *r);

#endif

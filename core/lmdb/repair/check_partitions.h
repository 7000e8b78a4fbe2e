/* SPDX-License-Identifier: MIT */
/*
 * Checking the partitions of a queue against its items; doc/format.md numbers
 * the invariants.
 */
#ifndef CHECK_PARTITIONS_H
#define CHECK_PARTITIONS_H

#include "lmdb/record/records.h"

/* Adds a text to `findings` for everything that is wrong. */
void check_partitions(txn *t, queue *q, packer *findings);

#endif

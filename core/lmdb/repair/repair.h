/* SPDX-License-Identifier: MIT */
/*
 * Repair: a new store made of what can be read of a damaged one.
 */
#ifndef REPAIR_H
#define REPAIR_H

#include "respool.h"

int lmdb_repair(const char *from, const char *to, respool_finding_fn each,
                void *arg, respool_salvage *out);

#endif

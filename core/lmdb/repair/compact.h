/* SPDX-License-Identifier: MIT */
/*
 * Compaction: the data file without its free pages.
 */
#ifndef COMPACT_H
#define COMPACT_H

#include "respool.h"

/* `to` NULL: in its place. */
int lmdb_compact(const char *path, const char *to, respool_compaction *out);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Brings back what the journal of a damaged store holds, in the new store.
 */
#ifndef REBUILD_JOURNAL_H
#define REBUILD_JOURNAL_H

#include "lmdb/repair/salvage.h"

/* Once the queues are rebuilt. */
void salvage_journal(salvage *s);

#endif

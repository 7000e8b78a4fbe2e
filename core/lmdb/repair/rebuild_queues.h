/* SPDX-License-Identifier: MIT */
/*
 * The queues of a salvaged store: their claims, counts and windows.
 */
#ifndef REBUILD_QUEUES_H
#define REBUILD_QUEUES_H

#include "lmdb/repair/salvage.h"

void salvage_queues(salvage *s);

#endif

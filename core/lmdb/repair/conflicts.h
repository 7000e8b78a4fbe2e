/* SPDX-License-Identifier: MIT */
/*
 * Segments of a salvaged store that contradict one another.
 */
#ifndef CONFLICTS_H
#define CONFLICTS_H

#include "lmdb/repair/salvage.h"

/* Names queues whose records are lost, and resolves conflicts in each queue.
   */
void salvage_conflicts(salvage *s);

#endif

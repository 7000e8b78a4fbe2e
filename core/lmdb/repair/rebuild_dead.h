/* SPDX-License-Identifier: MIT */
/*
 * The DLQs of a salvaged store.
 */
#ifndef REBUILD_DEAD_H
#define REBUILD_DEAD_H

#include "lmdb/repair/salvage.h"

/* Names DLQs whose records are lost. */
void salvage_name_dlqs(salvage *s);

/* Counts the dead letters of each DLQ, and removes those without their blob.
   */
void salvage_dlqs(salvage *s);

#endif

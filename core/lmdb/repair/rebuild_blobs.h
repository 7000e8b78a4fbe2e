/* SPDX-License-Identifier: MIT */
/*
 * The blobs of a salvaged store.
 */
#ifndef REBUILD_BLOBS_H
#define REBUILD_BLOBS_H

#include "lmdb/repair/salvage.h"

/* Finds blobs that no record refers to; deletes those that are not used. */
void salvage_blobs(salvage *s);
void salvage_sweep_blobs(salvage *s);

/* Is a blob there, and whole? */
bool salvage_has_blob(salvage *s, blob_ref b);

#endif

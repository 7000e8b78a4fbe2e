/* SPDX-License-Identifier: MIT */
/*
 * Settling, as takes need it.
 */
#ifndef SETTLE_H
#define SETTLE_H

#include "verbs/batch.h"

/* Makes a batch that was filled ready to be marked; an empty one becomes NULL.
   On failure it becomes NULL, too, and its items are released. */
int batch_ready(respool_batch **batch);

/* Releases and frees a batch in the background. The other one is for when the
   committer's lock is held; NULL is fine then. */
void batch_abandon(respool_batch *batch);
void batch_abandon_locked(respool_batch *batch);

#endif

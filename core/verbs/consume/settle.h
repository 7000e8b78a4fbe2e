/* SPDX-License-Identifier: MIT */
/*
 * Settling, as takes need it.
 */
#ifndef SETTLE_H
#define SETTLE_H

#include "verbs/consume/batch.h"

/* Makes a batch that was filled ready to be marked; an empty one becomes NULL.
   On failure it becomes NULL, too, and its items are released, in the
   background unless the caller may wait. */
int batch_ready(respool_batch **batch, bool may_wait);

/* Releases and frees a batch in the background, with the committer's lock
   held. NULL is fine. */
void batch_abandon(respool_batch *batch);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Applying units, flushing, and waiting for commits; see engine.h.
 */
#ifndef LMDB_APPLY_H
#define LMDB_APPLY_H

#include "engine.h"

void lmdb_apply(env *e, unit_list *group, unit_list *kept, unit_list *ended);
int lmdb_flush(env *e);
int lmdb_wait(env *e, const char *queue, enum wait_for what, uint64_t *seen,
              int64_t ms);

#endif

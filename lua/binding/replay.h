/* SPDX-License-Identifier: MIT */
/*
 * Replay jobs as tables.
 */
#ifndef BINDING_JOB_H
#define BINDING_JOB_H

#include "compat.h"
#include "respool.h"

/* The job that the table at `index` describes; returns `job`. */
const respool_replay *lreplay_read(lua_State *L, int index,
                                   respool_replay *replay);

#endif

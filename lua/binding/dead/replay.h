/* SPDX-License-Identifier: MIT */
/*
 * Named replays of a store, as tables.
 */
#ifndef BINDING_REPLAY_H
#define BINDING_REPLAY_H

#include "respool.h"
#include "values/compat.h"

/* Reads the named replay in the table at `index`; returns `replay`. */
const respool_replay *lreplay_read(lua_State *L, int index,
                                   respool_replay *replay);

/* Methods of a store, for the table on the top; those that may wait, for the
   module on the top. */
void lreplay_methods(lua_State *L);
void lreplay_starters(lua_State *L);

#endif

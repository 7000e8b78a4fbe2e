/* SPDX-License-Identifier: MIT */
/*
 * Deaths in a take: the dead letters that it made, for a queue that watches.
 * They are gathered in memory of C, as the core must not be left by an error,
 * and put beside the batch when it has returned.
 */
#ifndef BINDING_DEATHS_H
#define BINDING_DEATHS_H

#include "compat.h"
#include "respool.h"

/* Has a take gather its dead letters, if the table at `beside` has a true field
   `watch`. Pushes one value, which is to stay until they are put. */
void ldeaths_watch(lua_State *L, int beside, respool_take_options *o);

/* Sets `died` in the table at `beside`: { { DLQ =, number = }, ... }; nothing
   when there are none. `deaths` is the options' died_arg, or NULL. */
void ldeaths_put(lua_State *L, int beside, const void *deaths);

#endif

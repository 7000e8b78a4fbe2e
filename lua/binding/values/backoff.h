/* SPDX-License-Identifier: MIT */
/*
 * Retry policies between Lua and C. A policy in Lua is a table as made by
 * respool/backoff.lua: the fields of respool_backoff under their names,
 * times in milliseconds. A missing field is 0, a missing `max` no limit.
 */
#ifndef BINDING_BACKOFF_H
#define BINDING_BACKOFF_H

#include "compat.h"
#include "respool.h"

/* Reads the table at `index`. Raises for a field of a wrong type; what the
   numbers say is for respool_backoff_check to judge. */
void lbackoff_get(lua_State *L, int index, respool_backoff *out);

/* backoff_check(fields): true, or nil and what is wrong. */
int lbackoff_check(lua_State *L);

/* backoff_delay(fields, attempt, previous, u): the delay. */
int lbackoff_delay(lua_State *L);

#endif

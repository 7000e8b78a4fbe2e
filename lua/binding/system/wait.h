/* SPDX-License-Identifier: MIT */
/*
 * Limits and notices of waits for other processes.
 */
#ifndef BINDING_WAIT_H
#define BINDING_WAIT_H

#include "values/compat.h"

/* From now on the waits of this thread end when a signal comes that Lua, or
   core.process, is to hear of. Adds tell_waits, waited. */
void lwait_open(lua_State *L);

#endif

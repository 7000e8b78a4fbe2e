/* SPDX-License-Identifier: MIT */
/*
 * The bell: a socket that the core writes to when something may be ready, for
 * an event loop that can connect to a path and read, as nginx's can.
 */
#ifndef BINDING_BELL_H
#define BINDING_BELL_H

#include "values/compat.h"

#define LBELL "respool.bell"

/* The descriptor of the bell at `index`; -1 before it was accepted. */
int lbell_fd(lua_State *L, int index);

void lbell_open(lua_State *L); /* adds bell(); the module is on the top */

#endif

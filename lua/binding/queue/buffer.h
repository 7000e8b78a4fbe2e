/* SPDX-License-Identifier: MIT */
/*
 * Buffers of pushes.
 */
#ifndef BINDING_BUFFER_H
#define BINDING_BUFFER_H

#include "values/compat.h"

/* Methods of a queue, for the table on the top. */
void lbuffer_methods(lua_State *L);

void lbuffer_open(lua_State *L); /* makes the type */

#endif

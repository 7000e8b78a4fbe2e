/* SPDX-License-Identifier: MIT */
/*
 * CBOR as Lua values. Tables are filled raw; no metamethod runs.
 */
#ifndef LDECODE_H
#define LDECODE_H

#include <lua.h>
#include <stddef.h>

/* Pushes the value that the bytes are, all of them, and returns 0; or
   pushes a message and returns RESPOOL_CORRUPT. Raises only when Lua is out
   of memory. */
int ldecode_value(lua_State *L, const void *data, size_t n);

#endif

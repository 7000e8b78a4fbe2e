/* SPDX-License-Identifier: MIT */
/*
 * Lua values as CBOR and back: the mapping of payloads, headers and replay
 * transforms, and the table respool.cbor. Tables are read and made raw; no
 * metamethod runs.
 */
#ifndef LCBOR_H
#define LCBOR_H

#include <lua.h>
#include <stddef.h>

#include "base/cbor.h"

/* Leaves the table { encode, decode, skip, array, array_mt, null } on the
   stack. Comes before any other function here, once for each Lua state. */
void lcbor_open(lua_State *L);

/* The state's packer, emptied; it belongs to the state and outlives an
   error. What is packed into it stands until the next Lua call that makes
   an object: such a call may collect garbage, and a finalizer may encode. */
packer *lcbor_scratch(lua_State *L);

/* Appends the value at `index`. Raises an error that names the path to what
   has no CBOR form, and never shows a value. */
void lcbor_encode(lua_State *L, int index, packer *p);

/* Pushes the value that the bytes are, all of them, and returns 0; or
   pushes a message and returns RESPOOL_CORRUPT. Raises only when Lua is out
   of memory. */
int lcbor_decode(lua_State *L, const void *data, size_t n);

#endif

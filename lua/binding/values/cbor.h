/* SPDX-License-Identifier: MIT */
/*
 * The table respool.cbor, and the packer that its functions and others share.
 */
#ifndef LCBOR_H
#define LCBOR_H

#include <lua.h>

#include "cbor/packer.h"
#include "cbor/unpacker.h"

/* Leaves the table { encode, decode, skip, array, array_mt, null } on the
   stack. Comes before values are encoded or decoded, once for each Lua state.
   */
void lcbor_open(lua_State *L);

/* The state's packer, emptied; it belongs to the state and outlives an
   error. Its contents last until the next Lua call that makes an
   object: such a call may collect garbage, and a finalizer may encode. */
packer *lcbor_scratch(lua_State *L);

/* Pushes a list as CBOR, of elements that a callback of the core has packed,
   since it may not touch Lua. Returns 1. */
int lcbor_push_list(lua_State *L, uint64_t n, const packer *elements);

/* Members of a map that is an element. */
void lcbor_pair_text(packer *p, const char *name, const char *text);
void lcbor_pair_count(packer *p, const char *name, uint64_t n);

#endif

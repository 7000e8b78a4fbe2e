/* SPDX-License-Identifier: MIT */
/*
 * Tables as CBOR: the mark of arrays, and how deep tables may be nested.
 */
#ifndef LTABLES_H
#define LTABLES_H

#include <lua.h>
#include <stdbool.h>

#define LTABLES_DEPTH 64
#define LTABLES_STACK (3 * LTABLES_DEPTH + LUA_MINSTACK) /* slots in use */

/* Leaves array_mt on the stack. Comes before the other functions, once for
   each Lua state. */
void ltables_open(lua_State *L);

/* Marks the table on the top as an array. */
void ltables_mark(lua_State *L);

/* Does the table at `t` bear the mark? */
bool ltables_is_array(lua_State *L, int t);

#endif

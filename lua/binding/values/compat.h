/* SPDX-License-Identifier: MIT */
/*
 * One source for Lua 5.1, LuaJIT, 5.3 and 5.4: what the older ones lack,
 * under the newer one's name. A module built against 5.1 also loads into
 * LuaJIT, so nothing here asks which of the two it is.
 */
#ifndef COMPAT_H
#define COMPAT_H

#include <lauxlib.h>
#include <lua.h>
#include <stdint.h>

/* From 5.3 on Lua has integers of its own; before, doubles stand for them
   and are trusted up to this bound. */
#define COMPAT_INTEGERS (LUA_VERSION_NUM >= 503)
#define COMPAT_EXACT INT64_C(9007199254740992) /* 2^53 */

#if LUA_VERSION_NUM < 502

#define lua_rawlen(L, index) lua_objlen(L, index)

static inline void lua_rawgetp(lua_State *L, int index, const void *key) {
  lua_pushlightuserdata(L, (void *)(uintptr_t)key);
  lua_rawget(L, index < 0 && index > LUA_REGISTRYINDEX ? index - 1 : index);
}

/* Eats the value on the top. */
static inline void lua_rawsetp(lua_State *L, int index, const void *key) {
  lua_pushlightuserdata(L, (void *)(uintptr_t)key);
  lua_insert(L, -2);
  lua_rawset(L, index < 0 && index > LUA_REGISTRYINDEX ? index - 1 : index);
}

/* A full userdata has a table beside it. Setting eats it. */
#define compat_set_beside(L, index) lua_setfenv(L, index)
#define compat_get_beside(L, index) lua_getfenv(L, index)

#else

#define compat_set_beside(L, index) lua_setuservalue(L, index)
#define compat_get_beside(L, index) lua_getuservalue(L, index)

#endif

/* Adds the functions to the table on the top; luaL_setfuncs is missing from
   5.1 only. */
static inline void compat_register(lua_State *L, const luaL_Reg *l) {
  for (; l->name; l++) {
    lua_pushcfunction(L, l->func);
    lua_setfield(L, -2, l->name);
  }
}

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Tables as CBOR; see tables.h.
 */
#include "tables.h"

#include "compat.h"

static const char array_mt_key; /* its address is the key in the registry */

void ltables_open(lua_State *L) {
  lua_newtable(L);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &array_mt_key);
}

void ltables_mark(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &array_mt_key);
  lua_setmetatable(L, -2);
}

bool ltables_is_array(lua_State *L, int t) {
  if (!lua_getmetatable(L, t)) return false;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &array_mt_key);
  bool marked = lua_rawequal(L, -1, -2);
  lua_pop(L, 2);
  return marked;
}

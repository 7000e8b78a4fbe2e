/* SPDX-License-Identifier: MIT */
/*
 * Fuzzing CBOR on its way into Lua, through the binding: any bytes give a
 * value or an error, in bounded memory; a value encodes again, and what comes
 * of that decodes again.
 */
#include "fuzz.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#define MEMORY ((size_t)64 << 20)

int luaopen_respool_core(lua_State *L);

static size_t used;

static void *allocate(void *arg, void *p, size_t old, size_t n) {
  (void)arg;
  if (!p) old = 0;
  if (n > old && used + (n - old) > MEMORY) return NULL;
  void *to = n ? realloc(p, n) : NULL;
  if (!n) free(p);
  if (to || !n) used += n - old;
  return to;
}

static lua_State *open_lua(void) {
  lua_State *L = lua_newstate(allocate, NULL);
  if (!L) abort();
  lua_pushcfunction(L, luaopen_respool_core);
  lua_call(L, 0, 1);
  lua_getfield(L, -1, "cbor");
  return L;
}

/* Calls cbor[name] with the value on the top; does it return one? */
static int call(lua_State *L, const char *name) {
  lua_getfield(L, 2, name);
  lua_insert(L, -2);
  return lua_pcall(L, 1, 1, 0) == LUA_OK && !lua_isnil(L, -1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  static lua_State *L;
  if (!L) L = open_lua();
  lua_pushlstring(L, (const char *)data, n);
  if (call(L, "decode") && call(L, "encode") && !call(L, "decode")) abort();
  lua_settop(L, 2);
  lua_gc(L, LUA_GCCOLLECT, 0);
  return 0;
}

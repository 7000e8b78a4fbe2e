/* SPDX-License-Identifier: MIT */
/*
 * Results and errors. Misuse is noticed deep in the module, but its message
 * names the line that misused it: the innermost one outside the directories
 * that the Lua side has called home.
 */
#include "result.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "base/file.h"

static const char HOME; /* its address is the key in the registry */

/* Pushes the list of homes, made when it is missing. */
static int push_homes(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &HOME);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &HOME);
  }
  return lua_gettop(L);
}

int lresult_home(lua_State *L) {
  const char *source = luaL_checkstring(L, 1);
  const char *slash = strrchr(source, '/');
  int homes = push_homes(L);
  lua_pushlstring(L, source, slash ? (size_t)(slash - source) + 1 : 0);
  lua_rawseti(L, homes, (int)lua_rawlen(L, homes) + 1);
  return 0;
}

static int is_ours(lua_State *L, const lua_Debug *ar, int homes) {
  int ours = 0;
  for (int i = 1; !ours && i <= (int)lua_rawlen(L, homes); i++) {
    lua_rawgeti(L, homes, i);
    const char *home = lua_tostring(L, -1);
    ours = *home && strncmp(ar->source, home, strlen(home)) == 0;
    lua_pop(L, 1);
  }
  return ours;
}

static void push_where(lua_State *L) {
  int homes = push_homes(L);
  lua_Debug ar;
  for (int level = 0; lua_getstack(L, level, &ar); level++) {
    lua_getinfo(L, "Sl", &ar);
    if (ar.currentline > 0 && !is_ours(L, &ar, homes)) {
      lua_pushfstring(L, "%s:%d: ", ar.short_src, ar.currentline);
      return;
    }
  }
  lua_pushliteral(L, "");
}

int lmisuse(lua_State *L, const char *fmt, ...) {
  push_where(L);
  va_list args;
  va_start(args, fmt);
  lua_pushvfstring(L, fmt, args);
  va_end(args);
  lua_concat(L, 2);
  return lua_error(L);
}

int lresult_misuse(lua_State *L) {
  luaL_checkstring(L, 1); /* which may hold any byte */
  push_where(L);
  lua_pushvalue(L, 1);
  lua_concat(L, 2);
  return lua_error(L);
}

int lfail(lua_State *L, int rc) {
  if (rc == RESPOOL_INVALID)
    return lmisuse(L, "%s", respool_error_text());
  if (rc == RESPOOL_NOMEM)
    return luaL_error(L, "%s", respool_strerror(rc));
  lua_pushnil(L);
  lua_pushstring(L, respool_error_text());
  lua_pushstring(L, respool_errname(rc));
  return 3;
}

int lresult(lua_State *L, int rc) {
  if (rc)
    return lfail(L, rc);
  lua_pushboolean(L, 1);
  return 1;
}

static const char *code_of(int error) {
  switch (error) {
  case EEXIST: return "EXISTS";
  case ENOENT: return "NOT_FOUND";
  case ENOSPC:
  case EDQUOT: return "NOSPACE";
  case EWOULDBLOCK: return "LOCKED";
  default: return "IO";
  }
}

int lfail_file(lua_State *L, int error, const char *verb, const char *path) {
  lua_pushnil(L);
  lua_pushfstring(L, "cannot %s %s: %s", verb, path, file_error(error));
  lua_pushstring(L, code_of(error));
  return 3;
}

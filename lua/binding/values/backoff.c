/* SPDX-License-Identifier: MIT */
/*
 * Reads a retry policy from a Lua table, checks it, asks it. Numbers arrive
 * as doubles from every Lua; whatever an integer cannot hold ends up at a
 * bound of its range, NaN as -1, which no field allows.
 */
#include "backoff.h"

#include <limits.h>
#include <string.h>

static double number_field(lua_State *L, int t, const char *field,
                           double otherwise) {
  lua_getfield(L, t, field);
  int type = lua_type(L, -1);
  if (type != LUA_TNUMBER && type != LUA_TNIL)
    luaL_error(L, "backoff: '%s' must be a number", field);
  double x = type == LUA_TNIL ? otherwise : lua_tonumber(L, -1);
  lua_pop(L, 1);
  return x;
}

static int64_t whole(double x) {
  if (!(x >= 0)) /* negative or NaN? */
    return -1;
  return x < 0x1p63 ? (int64_t)x : INT64_MAX;
}

static int64_t time_field(lua_State *L, int t, const char *field,
                          double otherwise) {
  return whole(number_field(L, t, field, otherwise));
}

static int enum_field(lua_State *L, int t, const char *field) {
  int64_t v = time_field(L, t, field, 0);
  return v <= INT_MAX ? (int)v : -1;
}

/* One delay too many is counted but not kept: the check refuses it. */
static void get_list(lua_State *L, int t, respool_backoff *out) {
  for (out->count = 0; out->count <= RESPOOL_LIST_MAX; out->count++) {
    lua_rawgeti(L, t, (int)out->count + 1);
    if (lua_isnil(L, -1))
      break;
    if (out->count < RESPOOL_LIST_MAX)
      out->list[out->count] = whole(lua_tonumber(L, -1));
    lua_pop(L, 1);
  }
  lua_pop(L, out->count <= RESPOOL_LIST_MAX);
}

void lbackoff_get(lua_State *L, int index, respool_backoff *out) {
  luaL_checktype(L, index, LUA_TTABLE);
  int t = index > 0 ? index : lua_gettop(L) + index + 1;
  memset(out, 0, sizeof *out);
  out->kind = enum_field(L, t, "kind");
  out->jitter = enum_field(L, t, "jitter");
  out->ratio = number_field(L, t, "ratio", 0);
  out->initial = time_field(L, t, "initial", 0);
  out->step = time_field(L, t, "step", 0);
  out->factor = number_field(L, t, "factor", 0);
  out->max = time_field(L, t, "max", (double)RESPOOL_UNLIMITED);
  lua_getfield(L, t, "list");
  if (lua_istable(L, -1))
    get_list(L, lua_gettop(L), out);
  lua_pop(L, 1);
}

int lbackoff_check(lua_State *L) {
  respool_backoff b;
  lbackoff_get(L, 1, &b);
  if (respool_backoff_check(&b) == 0) {
    lua_pushboolean(L, 1);
    return 1;
  }
  lua_pushnil(L);
  lua_pushstring(L, respool_error_text());
  return 2;
}

static uint64_t natural(double n) {
  if (!(n >= 1)) /* less or NaN? */
    return 1;
  return n < 0x1p64 ? (uint64_t)n : UINT64_MAX;
}

int lbackoff_delay(lua_State *L) {
  respool_backoff b;
  lbackoff_get(L, 1, &b);
  if (respool_backoff_check(&b) != 0)
    return luaL_error(L, "%s", respool_error_text());
  double attempt = luaL_checknumber(L, 2);
  int64_t previous = whole(luaL_checknumber(L, 3));
  double u = luaL_checknumber(L, 4);
  luaL_argcheck(L, u >= 0 && u < 1, 4, "a number in [0, 1) expected");
  int64_t ms = respool_backoff_delay(&b, natural(attempt), previous, u);
  lua_pushnumber(L, (lua_Number)ms);
  return 1;
}

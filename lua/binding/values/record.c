/* SPDX-License-Identifier: MIT */
/*
 * Records. Reading is strict about types and ranges, so that no number
 * reaches the core changed; the Lua side has said it more kindly before.
 */
#include "record.h"

#include <math.h>
#include <string.h>

#define TOP 9.2e18 /* from here on a number means UNLIMITED */

static double not_negative(lua_State *L, int index) {
  double v = luaL_checknumber(L, index);
  luaL_argcheck(L, v >= 0, index, "negative or not a number");
  return v;
}

static int64_t whole(double v) {
  return v < TOP ? (int64_t)v : RESPOOL_UNLIMITED;
}

int64_t lrecord_limit(lua_State *L, int index) {
  if (lua_isnoneornil(L, index))
    return RESPOOL_KEEP;
  return whole(not_negative(L, index));
}

int64_t lrecord_span(lua_State *L, int index) {
  if (lua_isnoneornil(L, index))
    return RESPOOL_KEEP;
  return whole(round(not_negative(L, index) * 1000));
}

int64_t lrecord_span_or_zero(lua_State *L, int index) {
  return lua_isnoneornil(L, index) ? 0 : lrecord_span(L, index);
}

uint64_t lrecord_count(lua_State *L, int index) {
  double v = not_negative(L, index);
  luaL_argcheck(L, v <= COMPAT_EXACT, index, "too large");
  return (uint64_t)v;
}

static int small(lua_State *L, int index) {
  double v = luaL_checknumber(L, index);
  luaL_argcheck(L, v >= 0 && v <= 0x7fffffff, index, "out of range");
  return (int)v;
}

void lrecord_push_count(lua_State *L, uint64_t n) {
  lua_pushinteger(L, (lua_Integer)n);
}

int lrecord_push_notice(lua_State *L, const respool_notice *n) {
  if (!n->number)
    return 0;
  lua_pushstring(L, n->dlq);
  lrecord_push_count(L, n->number);
  return 2;
}

static void push_limit(lua_State *L, int64_t n) {
  if (n == RESPOOL_UNLIMITED)
    lua_pushnumber(L, HUGE_VAL);
  else
    lua_pushinteger(L, (lua_Integer)n);
}

void lrecord_push_span(lua_State *L, int64_t ms) {
  lua_pushnumber(L, ms == RESPOOL_UNLIMITED ? HUGE_VAL : (double)ms / 1000);
}

static void push_time(lua_State *L, int64_t ms) {
  if (ms)
    lua_pushnumber(L, (double)ms / 1000);
  else
    lua_pushnil(L);
}

static void push_bytes(lua_State *L, const respool_bytes *b) {
  if (b->size)
    lua_pushlstring(L, b->data, b->size);
  else
    lua_pushnil(L);
}

#define FIELD(type) (*(const type *)at)

void lrecord_push_field(lua_State *L, const record_field *f,
                        const void *record) {
  const void *at = (const char *)record + f->at;
  switch (f->kind) {
  case RECORD_COUNT: lrecord_push_count(L, FIELD(uint64_t)); break;
  case RECORD_LIMIT: push_limit(L, FIELD(int64_t)); break;
  case RECORD_SPAN: lrecord_push_span(L, FIELD(int64_t)); break;
  case RECORD_TIME: push_time(L, FIELD(int64_t)); break;
  case RECORD_INT: lua_pushinteger(L, FIELD(int)); break;
  case RECORD_UINT: lua_pushinteger(L, FIELD(unsigned)); break;
  case RECORD_FLAG: lua_pushboolean(L, FIELD(int)); break;
  case RECORD_BYTES: push_bytes(L, at); break;
  case RECORD_TEXT: lua_pushstring(L, FIELD(char *const)); break;
  case RECORD_NAME: lua_pushstring(L, at); break;
  }
}

void lrecord_push(lua_State *L, const record_field *layout,
                  const void *record) {
  lua_newtable(L);
  for (const record_field *f = layout; f->name; f++) {
    lrecord_push_field(L, f, record);
    lua_setfield(L, -2, f->name);
  }
}

static void read_name(lua_State *L, const char *field, char *out) {
  size_t n;
  const char *name = luaL_checklstring(L, -1, &n);
  if (n > RESPOOL_NAME_MAX || strlen(name) != n)
    luaL_error(L, "'%s' is no name", field);
  memcpy(out, name, n + 1);
}

#define SET(type) (*(type *)at)

/* The value on the top. */
static void read_field(lua_State *L, const record_field *f, void *at) {
  int top = lua_gettop(L);
  switch (f->kind) {
  case RECORD_COUNT: SET(uint64_t) = lrecord_count(L, top); break;
  case RECORD_LIMIT: SET(int64_t) = lrecord_limit(L, top); break;
  case RECORD_SPAN:
  case RECORD_TIME: SET(int64_t) = lrecord_span(L, top); break;
  case RECORD_INT: SET(int) = small(L, top); break;
  case RECORD_UINT: SET(unsigned) = (unsigned)small(L, top); break;
  case RECORD_FLAG: SET(int) = lua_toboolean(L, top); break;
  case RECORD_BYTES:
    luaL_checktype(L, top, LUA_TSTRING);
    SET(respool_bytes).data = lua_tolstring(L, top, &SET(respool_bytes).size);
    break;
  case RECORD_TEXT:
    luaL_checktype(L, top, LUA_TSTRING); /* no number: its text is lost */
    SET(const char *) = lua_tostring(L, top);
    break;
  case RECORD_NAME: read_name(L, f->name, at); break;
  }
}

static const record_field *field_of(const record_field *layout,
                                    const char *name) {
  while (layout->name && strcmp(layout->name, name) != 0)
    layout++;
  return layout->name ? layout : NULL;
}

/* Tables have few of the fields that a layout knows: it is their names that
   are gone through. */
void lrecord_read(lua_State *L, int index, const record_field *layout,
                  void *record) {
  luaL_checktype(L, index, LUA_TTABLE);
  for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
    const record_field *f =
        lua_type(L, -2) == LUA_TSTRING ? field_of(layout, lua_tostring(L, -2))
                                       : NULL;
    if (f)
      read_field(L, f, (char *)record + f->at);
  }
}

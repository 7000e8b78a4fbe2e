/* SPDX-License-Identifier: MIT */
/*
 * Lua values as CBOR; see encode.h. A table with the keys 1..n is an array, any
 * other a map; an empty one is a map unless it bears array_mt. Valid UTF-8 is
 * text, any other string is bytes. Where Lua has integers they are CBOR's;
 * elsewhere an integral double that doubles can count to is one.
 *
 * The value in hand is on the top of the stack, so that its index is known.
 */
#include "encode.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/decimal.h"
#include "cbor/utf8.h"
#include "compat.h"
#include "result.h"
#include "tables.h"

#define PATH_SHOWN 200 /* bytes of a path in a message */
#define KEY_SHOWN 40
#define PART_MAX (KEY_SHOWN + 16)


/* ---- paths ------------------------------------------------------------ */

/* A container being encoded, on the C stack, in the one above it. */
typedef struct level {
  const struct level *up;
  const void *table; /* its identity */
  int key;           /* stack index of the key in hand; 0: an array */
  bool in_key;       /* the key itself is being encoded */
  size_t i;          /* element in hand of an array */
  int depth;         /* from 1 */
  size_t most;       /* bytes, beyond which the rest does not matter */
} level;

typedef struct path {
  char text[PATH_SHOWN + sizeof "..."];
  size_t len;
  bool cut;
} path;

static void add_part(path *s, const char *part) {
  if (s->cut) return;
  s->cut = s->len + strlen(part) > PATH_SHOWN;
  strcpy(s->text + s->len, s->cut ? "..." : part);
  s->len += strlen(part);
}

/* Printed bare, whatever the locale. */
static bool is_name(const char *k, size_t n) {
  static const char chars[] = "0123456789_abcdefghijklmnopqrstuvwxyz"
                              "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  return n > 0 && n <= KEY_SHOWN && k[0] > '9' && strspn(k, chars) == n;
}

/* ["key"], cut and on one line whatever is in it. */
static void quote(const char *k, size_t n, char *part) {
  char shown[KEY_SHOWN + 1];
  bool utf8 = utf8_valid(k, n);
  size_t size = n < KEY_SHOWN ? n : KEY_SHOWN;
  while (utf8 && size < n && (k[size] & 0xc0) == 0x80) size--;
  for (size_t i = 0; i < size; i++) {
    uint8_t c = (uint8_t)k[i];
    bool plain = c >= 0x80 ? utf8 : c >= ' ' && c != 0x7f;
    shown[i] = plain ? k[i] : '?';
  }
  shown[size] = '\0';
  snprintf(part, PART_MAX, "[\"%s%s\"]", shown, size < n ? "..." : "");
}

static void describe_number(double v, char *part) {
  char text[DECIMAL_MAX];
  decimal_write(v, text);
  snprintf(part, PART_MAX, "[%s]", text);
}

static void describe_key(lua_State *L, int k, char *part) {
  size_t n;
  int type = lua_type(L, k);
  const char *name = type == LUA_TSTRING ? lua_tolstring(L, k, &n) : NULL;
  if (name != NULL && is_name(name, n))
    snprintf(part, PART_MAX, ".%s", name);
  else if (name != NULL)
    quote(name, n, part);
  else if (type == LUA_TNUMBER)
    describe_number((double)lua_tonumber(L, k), part);
  else
    snprintf(part, PART_MAX, "[%s]", lua_typename(L, type));
}

static void add_levels(lua_State *L, const level *l, path *s) {
  char part[PART_MAX];
  if (l == NULL || l->table == NULL) return;
  add_levels(L, l->up, s);
  if (l->key == 0)
    snprintf(part, sizeof part, "[%zu]", l->i);
  else if (l->in_key)
    snprintf(part, sizeof part, "[key]");
  else
    describe_key(L, l->key, part);
  add_part(s, part);
}

/* Raises the error: `what`, which may take `type`, and where it lies. */
static void refuse(lua_State *L, const level *l, const char *what,
                   const char *type) {
  path s = {.len = 0};
  add_levels(L, l, &s);
  const char *line = lua_pushfstring(L, what, type);
  lmisuse(L, "%s%s%s", line, s.len > 0 ? " at " : "", s.text);
}


/* ---- encoding --------------------------------------------------------- */

static void encode_value(lua_State *L, int at, packer *p, level *l);

static void encode_string(lua_State *L, int at, packer *p) {
  size_t n;
  const char *s = lua_tolstring(L, at, &n);
  pack_string(p, s, n);
}

static void encode_number(lua_State *L, int at, packer *p) {
#if COMPAT_INTEGERS
  if (lua_isinteger(L, at))
    pack_int(p, lua_tointeger(L, at));
  else
    pack_double(p, (double)lua_tonumber(L, at));
#else
  double v = lua_tonumber(L, at);
  bool small = fabs(v) <= (double)COMPAT_EXACT;
  if (small && v == (double)(int64_t)v && !(v == 0 && signbit(v)))
    pack_int(p, (int64_t)v);
  else
    pack_double(p, v);
#endif
}

static bool is_index(lua_Number k, size_t n) {
  return k >= 1 && k <= (lua_Number)n && k == (lua_Number)(size_t)k;
}

/* The keys tend to come in order. */
bool lencode_is_sequence(lua_State *L, int t, size_t n) {
  size_t found = 0;
  lua_pushnil(L);
  while (lua_next(L, t)) {
    lua_pop(L, 1);
    lua_Number k = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : 0;
    if (k != (lua_Number)++found && !is_index(k, n)) {
      lua_pop(L, 1);
      return false;
    }
  }
  return found == n;
}

/* An array whose keys come in order, as they mostly do; false, and nothing is
   appended, where they do not or are other ones. */
static bool encode_in_order(lua_State *L, int t, size_t n, packer *p,
                            level *l) {
  size_t begin = p->len;
  pack_array(p, n);
  lua_pushnil(L);
  for (l->i = 1; lua_next(L, t); l->i++) {
    if (lua_type(L, t + 1) != LUA_TNUMBER ||
        lua_tonumber(L, t + 1) != (lua_Number)l->i) {
      lua_pop(L, 2);
      l->i = 0;
      break;
    }
    encode_value(L, t + 2, p, l);
    lua_pop(L, 1);
    if (p->len <= l->most) continue;
    lua_pop(L, 1);
    return true;
  }
  if (l->i == n + 1) return true;
  p->len = begin;
  return false;
}

static void encode_array(lua_State *L, int t, size_t n, packer *p,
                         level *l) {
  pack_array(p, n);
  for (l->i = 1; l->i <= n && p->len <= l->most; l->i++) {
    lua_rawgeti(L, t, (int)l->i);
    encode_value(L, t + 1, p, l);
    lua_pop(L, 1);
  }
}

/* The key at `k`, below its value. */
static void encode_key(lua_State *L, int k, packer *p, level *l) {
  if (lua_type(L, k) == LUA_TSTRING) {
    encode_string(L, k, p);
    return;
  }
  l->in_key = true;
  lua_pushvalue(L, k);
  encode_value(L, k + 2, p, l);
  lua_pop(L, 1);
  l->in_key = false;
}

static void encode_map(lua_State *L, int t, packer *p, level *l) {
  size_t at = pack_map_open(p), n = 0;
  l->key = t + 1;
  lua_pushnil(L);
  while (lua_next(L, t)) {
    encode_key(L, t + 1, p, l);
    encode_value(L, t + 2, p, l);
    lua_pop(L, 1);
    n++;
    if (p->len <= l->most) continue;
    lua_pop(L, 1);
    break;
  }
  pack_map_close(p, at, n);
}

/* Raises when the table has no place below the levels there are. */
static void check_nesting(lua_State *L, const level *l) {
  if (l->depth > LTABLES_DEPTH) refuse(L, l->up, "nested deeper than 64", NULL);
  for (const level *up = l->up; up != NULL; up = up->up)
    if (up->table == l->table) refuse(L, l->up, "cycle", NULL);
}

static void encode_table(lua_State *L, int t, packer *p, level *up) {
  level l = {
    .up = up, .table = lua_topointer(L, t),
    .depth = up->depth + 1, .most = up->most
  };
  check_nesting(L, &l);
  bool marked = ltables_is_array(L, t);
  size_t n = lua_rawlen(L, t);
  if (n > 0 && encode_in_order(L, t, n, p, &l))
    return;
  if ((n > 0 || marked) && lencode_is_sequence(L, t, n))
    encode_array(L, t, n, p, &l);
  else if (marked)
    refuse(L, up, "array with keys other than 1..n", NULL);
  else
    encode_map(L, t, p, &l);
}

/* The value at `at`, the top. Strings and numbers are asked for first. */
static void encode_value(lua_State *L, int at, packer *p, level *l) {
  int type = lua_type(L, at);
  if (type == LUA_TSTRING)
    encode_string(L, at, p);
  else if (type == LUA_TNUMBER)
    encode_number(L, at, p);
  else if (type == LUA_TTABLE)
    encode_table(L, at, p, l);
  else if (type == LUA_TBOOLEAN)
    pack_bool(p, lua_toboolean(L, at));
  else if (type == LUA_TLIGHTUSERDATA && lua_touserdata(L, at) == NULL)
    pack_null(p);
  else
    refuse(L, l, "cannot encode %s", lua_typename(L, type));
}

/* `depth` tables are around the value. */
static void encode_within(lua_State *L, int index, packer *p, int depth,
                          size_t most) {
  level around = {.depth = depth, .most = most};
  luaL_checkstack(L, LTABLES_STACK, "no room to encode");
  lua_pushvalue(L, index);
  encode_value(L, lua_gettop(L), p, &around);
  lua_pop(L, 1);
  if (p->rc != 0) luaL_error(L, "not enough memory");
}

void lencode_value(lua_State *L, int index, packer *p) {
  encode_within(L, index, p, 0, SIZE_MAX);
}

bool lencode_short(lua_State *L, int index, packer *p, int depth,
                   size_t most) {
  size_t begin = p->len;
  encode_within(L, index, p, depth, begin + most);
  if (p->len - begin <= most) return true;
  p->len = begin;
  return false;
}

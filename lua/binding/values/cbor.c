/* SPDX-License-Identifier: MIT */
/*
 * respool.cbor; see cbor.h.
 */
#include "cbor.h"

#include "compat.h"
#include "decode.h"
#include "encode.h"
#include "tables.h"

#define SCRATCH_KEPT (1024 * 1024) /* bytes of the packer */

static const char scratch_key; /* its address is the key in the registry */


/* ---- scratch ---------------------------------------------------------- */

/* `pinned` while bytes are in use across a Lua call: who comes meanwhile
   gets another scratch. One left pinned by an error is garbage. */
typedef struct scratch {
  packer p;
  bool pinned;
} scratch;

static int scratch_gc(lua_State *L) {
  scratch *s = lua_touserdata(L, 1);
  packer_free(&s->p);
  return 0;
}

static scratch *new_scratch(lua_State *L) {
  scratch *s = lua_newuserdata(L, sizeof *s);
  packer_init(&s->p);
  s->pinned = false;
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, scratch_gc);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &scratch_key);
  return s;
}

/* Pushes the scratch that nobody uses. */
static scratch *push_scratch(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &scratch_key);
  scratch *s = lua_touserdata(L, -1);
  if (s->pinned) {
    lua_pop(L, 1);
    s = new_scratch(L);
  }
  if (s->p.cap > SCRATCH_KEPT) packer_free(&s->p);
  packer_reset(&s->p);
  return s;
}

packer *lcbor_scratch(lua_State *L) {
  scratch *s = push_scratch(L);
  lua_pop(L, 1); /* the registry holds it */
  return &s->p;
}

int lcbor_push_list(lua_State *L, uint64_t n, const packer *elements) {
  packer *all = lcbor_scratch(L);
  pack_array(all, n);
  pack_raw(all, elements->data, elements->len);
  if (all->rc)
    return luaL_error(L, "not enough memory");
  lua_pushlstring(L, (const char *)all->data, all->len);
  return 1;
}

void lcbor_pair_text(packer *p, const char *name, const char *text) {
  pack_text(p, name, strlen(name));
  pack_string(p, text, strlen(text));
}

void lcbor_pair_count(packer *p, const char *name, uint64_t n) {
  pack_text(p, name, strlen(name));
  pack_uint(p, n);
}


/* ---- respool.cbor ----------------------------------------------------- */

/* The bytes of the scratch, which 5.1 may collect before it copies them. */
static void push_packed(lua_State *L, scratch *s) {
  s->pinned = true;
  lua_pushlstring(L, (const char *)s->p.data, s->p.len);
  s->pinned = false;
}

static int encode(lua_State *L) {
  luaL_checkany(L, 1);
  scratch *s = push_scratch(L);
  lencode_value(L, 1, &s->p);
  push_packed(L, s);
  return 1;
}

/* short(value, depth, most): the CBOR of a value in `depth` tables, if it has
   so many bytes at most; else nothing. */
static int encode_short(lua_State *L) {
  int depth = (int)luaL_checkinteger(L, 2);
  size_t most = (size_t)luaL_checkinteger(L, 3);
  luaL_checkany(L, 1);
  scratch *s = push_scratch(L);
  if (!lencode_short(L, 1, &s->p, depth, most))
    return 0;
  push_packed(L, s);
  return 1;
}

/* elements(t, i, n, depth, most): the CBOR of those from i to n of an array in
   `depth` tables, as far as they have so many bytes together, and the next i.
   */
static int encode_elements(lua_State *L) {
  lua_Integer i = luaL_checkinteger(L, 2), n = luaL_checkinteger(L, 3);
  int depth = (int)luaL_checkinteger(L, 4);
  size_t most = (size_t)luaL_checkinteger(L, 5);
  luaL_checktype(L, 1, LUA_TTABLE);
  scratch *s = push_scratch(L);
  for (bool fits = true; fits && i <= n; i += fits) {
    lua_rawgeti(L, 1, (int)i);
    fits = lencode_short(L, lua_gettop(L), &s->p, depth + 1, most - s->p.len);
    lua_pop(L, 1);
  }
  push_packed(L, s);
  lua_pushinteger(L, i);
  return 2;
}

/* entries(t, key, depth, most): the CBOR of those behind the key, nil: of all,
   of a map in `depth` tables, as far as they have so many bytes together; the
   last key, and how many there are. */
static int encode_entries(lua_State *L) {
  int depth = (int)luaL_checkinteger(L, 3);
  size_t most = (size_t)luaL_checkinteger(L, 4), n = 0;
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 4);
  scratch *s = push_scratch(L);
  packer *p = &s->p;
  lua_pushvalue(L, 2);
  while (lua_next(L, 1)) {
    size_t before = p->len;
    int key = lua_gettop(L) - 1;
    bool fits = lencode_short(L, key, p, depth + 1, most - p->len) &&
                lencode_short(L, key + 1, p, depth + 1, most - p->len);
    if (!fits) {
      p->len = before;
      break;
    }
    lua_pop(L, 1);
    lua_pushvalue(L, key);
    lua_replace(L, 2);
    n++;
  }
  push_packed(L, s);
  lua_pushvalue(L, 2);
  lua_pushinteger(L, (lua_Integer)n);
  return 3;
}

/* keys(t, key, most): how many keys behind this one there are, nil: in all, of
   so many at most; the last of them, how many elements the table has as an
   array, and whether it is marked as one. */
static int count_keys(lua_State *L) {
  lua_Integer n = 0, most = luaL_checkinteger(L, 3);
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 2);
  while (n < most && lua_next(L, 1)) {
    lua_pop(L, 1);
    n++;
  }
  if (lua_gettop(L) < 2)
    lua_pushnil(L);
  lua_pushinteger(L, n);
  lua_insert(L, 2);
  lua_pushinteger(L, (lua_Integer)lua_rawlen(L, 1));
  lua_pushboolean(L, ltables_is_array(L, 1));
  return 4;
}

/* is_sequence(t): whether its keys are 1..n, for some n. */
static int is_sequence(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_pushboolean(L, lencode_is_sequence(L, 1, lua_rawlen(L, 1)));
  return 1;
}

/* head(keyed, n): what a map or an array of so many elements begins with. */
static int head(lua_State *L) {
  size_t n = (size_t)luaL_checkinteger(L, 2);
  scratch *s = push_scratch(L);
  if (lua_toboolean(L, 1))
    pack_map(&s->p, n);
  else
    pack_array(&s->p, n);
  push_packed(L, s);
  return 1;
}

/* The name and the value on the top. */
static void pack_member(lua_State *L, packer *p) {
  size_t n;
  const char *name = lua_tolstring(L, -2, &n);
  pack_string(p, name, n);
  lencode_value(L, -1, p);
}

/* Packs those of a table's members whose names the list at `names` has, in
   its order; how many. */
static size_t pack_members(lua_State *L, int names, packer *p) {
  size_t count = 0, n = lua_rawlen(L, names);
  for (size_t i = 1; i <= n; i++) {
    lua_rawgeti(L, names, (int)i);
    lua_pushvalue(L, -1);
    lua_rawget(L, 1);
    if (!lua_isnil(L, -1)) {
      pack_member(L, p);
      count++;
    }
    lua_pop(L, 2);
  }
  return count;
}

/* Packs all members of the table at `t`; how many. */
static size_t pack_all(lua_State *L, int t, packer *p) {
  size_t count = 0;
  for (lua_pushnil(L); lua_next(L, t); count++) {
    pack_member(L, p);
    lua_pop(L, 1);
  }
  return count;
}

/* members(table, names, more): the CBOR of a map of the members named, as far
   as there are such, and of those of the table `more`, if any. */
static int members(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 3);
  scratch *s = push_scratch(L);
  packer *p = &s->p;
  size_t at = pack_map_open(p), n = pack_members(L, 2, p);
  if (lua_istable(L, 3)) n += pack_all(L, 3, p);
  pack_map_close(p, at, n);
  if (p->rc != 0) luaL_error(L, "not enough memory");
  push_packed(L, s);
  return 1;
}

static int decode(lua_State *L) {
  size_t n;
  luaL_checktype(L, 1, LUA_TSTRING);
  const char *s = lua_tolstring(L, 1, &n);
  int rc = ldecode_value(L, s, n);
  if (rc == 0) return 1;
  lua_pushnil(L);
  lua_insert(L, -2);
  lua_pushstring(L, respool_errname(rc));
  return 3;
}

/* skip(bytes, at): where the value that begins there is followed by the next;
   nothing when it is cut short or malformed. */
static int skip(lua_State *L) {
  size_t n;
  const char *s = luaL_checklstring(L, 1, &n);
  lua_Integer at = luaL_checkinteger(L, 2);
  luaL_argcheck(L, at >= 1 && (size_t)at <= n + 1, 2, "out of range");
  unpacker u;
  unpacker_init(&u, s + at - 1, n - (size_t)at + 1);
  respool_bytes value = unpack_skip(&u);
  if (u.rc || value.size == 0)
    return 0;
  lua_pushinteger(L, at + (lua_Integer)value.size);
  return 1;
}

/* enter(bytes, at): of an array or a map of known length that begins there, its
   kind, its length, and where its first element begins; else nothing. */
static int enter_at(lua_State *L) {
  size_t n;
  cbor_head h;
  unpacker u;
  const char *s = luaL_checklstring(L, 1, &n);
  lua_Integer at = luaL_checkinteger(L, 2);
  luaL_argcheck(L, at >= 1 && (size_t)at <= n + 1, 2, "out of range");
  unpacker_init(&u, s + at - 1, n - (size_t)at + 1);
  if (!unpack_head(&u, &h) || (h.kind != CBOR_ARRAY && h.kind != CBOR_MAP))
    return 0;
  lua_pushstring(L, h.kind == CBOR_MAP ? "map" : "array");
  lua_pushinteger(L, (lua_Integer)h.u);
  lua_pushinteger(L, (lua_Integer)((const char *)u.at - s) + 1);
  return 3;
}

/* The next element of `u`, with a key before it or not, into the table at
   index 3, if it has `most` bytes at most; else `u` stays before it. */
static bool fill_one(lua_State *L, unpacker *u, lua_Integer i, bool keyed,
                     size_t most) {
  unpacker from = *u;
  respool_bytes key = keyed ? unpack_skip(u) : (respool_bytes){NULL, 0};
  respool_bytes value = unpack_skip(u);
  bool ok = !u->rc && key.size + value.size <= most &&
    (!keyed || !ldecode_value(L, key.data, key.size)) &&
    !ldecode_value(L, value.data, value.size);
  if (!ok)
    *u = from;
  else if (keyed)
    lua_rawset(L, 3);
  else
    lua_rawseti(L, 3, (int)i);
  return ok;
}

/* fill(bytes, at, t, i, n, keyed, most): puts the elements i to n, which begin
   at `at`, into the table, as far as they have `most` bytes together; the next
   i, and where it begins. */
static int fill(lua_State *L) {
  size_t size, most = (size_t)luaL_checkinteger(L, 7);
  unpacker u;
  const char *s = luaL_checklstring(L, 1, &size);
  lua_Integer at = luaL_checkinteger(L, 2), i = luaL_checkinteger(L, 4);
  luaL_argcheck(L, at >= 1 && (size_t)at <= size + 1, 2, "out of range");
  luaL_checktype(L, 3, LUA_TTABLE);
  unpacker_init(&u, s + at - 1, size - (size_t)at + 1);
  const uint8_t *stop = u.at;
  for (lua_Integer n = luaL_checkinteger(L, 5); i <= n; i++) {
    size_t had = (size_t)(u.at - stop);
    lua_settop(L, 7);
    if (had > most ||
        !fill_one(L, &u, i, lua_toboolean(L, 6), most - had))
      break;
  }
  lua_pushinteger(L, i);
  lua_pushinteger(L, (lua_Integer)((const char *)u.at - s) + 1);
  return 2;
}

/* array([t]): marks the table, a new one by default, and returns it. */
static int array(lua_State *L) {
  lua_settop(L, 1);
  if (lua_isnil(L, 1))
    lua_newtable(L);
  else
    luaL_checktype(L, 1, LUA_TTABLE);
  ltables_mark(L);
  return 1;
}

static const luaL_Reg functions[] = {
  {"encode", encode}, {"members", members}, {"decode", decode},
  {"skip", skip}, {"enter", enter_at}, {"fill", fill}, {"array", array},
  {"short", encode_short}, {"elements", encode_elements}, {"keys", count_keys},
  {"entries", encode_entries},
  {"head", head}, {"is_sequence", is_sequence},
  {NULL, NULL}
};

void lcbor_open(lua_State *L) {
  new_scratch(L);
  lua_pop(L, 1);
  lua_createtable(L, 0, 6);
  compat_register(L, functions);
  lua_pushlightuserdata(L, NULL);
  lua_setfield(L, -2, "null");
  ltables_open(L);
  lua_setfield(L, -2, "array_mt");
}

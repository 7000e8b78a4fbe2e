/* SPDX-License-Identifier: MIT */
/*
 * Lua values as CBOR and back; see cbor.h. A table with the keys 1..n is an
 * array, any other a map; an empty one is a map unless it bears array_mt,
 * which every decoded array does. Valid UTF-8 is text, any other string is
 * bytes. Where Lua has integers they are CBOR's; elsewhere an integral
 * double that doubles can count to is one.
 *
 * Encoding keeps the value in hand on the top of the stack, and so knows
 * its index. Decoding counts the items owed to the containers it is in: as
 * each takes a byte, a length that the bytes left cannot pay is refused
 * before anything is made.
 */
#include "cbor.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/decimal.h"
#include "compat.h"
#include "result.h"

#define DEPTH_MAX 64
#define SCRATCH_KEPT (1024 * 1024) /* bytes of the packer */
#define PATH_SHOWN 200             /* bytes of a path in a message */
#define KEY_SHOWN 40
#define PART_MAX (KEY_SHOWN + 16)
#define TAG_BIG 2
#define TAG_BIG_NEGATIVE 3
#define STACK_MAX (3 * DEPTH_MAX + LUA_MINSTACK) /* slots in use */

/* Addresses are the keys in the registry. */
static const char array_mt_key, scratch_key;


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


/* ---- paths ------------------------------------------------------------ */

/* A container being encoded, on the C stack, in the one above it. */
typedef struct level {
  const struct level *up;
  const void *table; /* its identity */
  int key;           /* stack index of the key in hand; 0: an array */
  bool in_key;       /* the key itself is being encoded */
  size_t i;          /* element in hand of an array */
  int depth;         /* from 1 */
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
  if (l == NULL) return;
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

/* Whether the table at `t` has n keys, all of them in 1..n. They tend to
   come in order. */
static bool is_sequence(lua_State *L, int t, size_t n) {
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

static bool is_marked(lua_State *L, int t) {
  if (!lua_getmetatable(L, t)) return false;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &array_mt_key);
  bool marked = lua_rawequal(L, -1, -2);
  lua_pop(L, 2);
  return marked;
}

static void encode_array(lua_State *L, int t, size_t n, packer *p,
                         level *l) {
  pack_array(p, n);
  for (l->i = 1; l->i <= n; l->i++) {
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
  }
  pack_map_close(p, at, n);
}

/* Raises when the table has no place below the levels there are. */
static void check_nesting(lua_State *L, const level *l) {
  if (l->depth > DEPTH_MAX) refuse(L, l->up, "nested deeper than 64", NULL);
  for (const level *up = l->up; up != NULL; up = up->up)
    if (up->table == l->table) refuse(L, l->up, "cycle", NULL);
}

static void encode_table(lua_State *L, int t, packer *p, level *up) {
  level l = {
    .up = up, .table = lua_topointer(L, t),
    .depth = up == NULL ? 1 : up->depth + 1
  };
  check_nesting(L, &l);
  bool marked = is_marked(L, t);
  size_t n = lua_rawlen(L, t);
  if ((n > 0 || marked) && is_sequence(L, t, n))
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

void lcbor_encode(lua_State *L, int index, packer *p) {
  luaL_checkstack(L, STACK_MAX, "no room to encode");
  lua_pushvalue(L, index);
  encode_value(L, lua_gettop(L), p, NULL);
  lua_pop(L, 1);
  if (p->rc != 0) luaL_error(L, "not enough memory");
}


/* ---- decoding --------------------------------------------------------- */

typedef struct decoder {
  lua_State *L;
  unpacker u;
  uint64_t owed;   /* items that the containers so far still lack */
  const char *why; /* what is wrong; at first, with the next head */
} decoder;

static bool decode_item(decoder *d, int depth);
static bool decode_value(decoder *d, cbor_head *h, int depth);

static bool wrong(decoder *d, const char *why) {
  d->why = why;
  return false;
}

static bool push_text(decoder *d, respool_bytes s) {
  if (!utf8_valid(s.data, s.size)) return wrong(d, "text is not UTF-8");
  lua_pushlstring(d->L, s.data, s.size);
  return true;
}

static bool push_bytes(decoder *d, respool_bytes s) {
  lua_pushlstring(d->L, s.data, s.size);
  return true;
}

/* u, or -1 - u. */
static bool push_integer(decoder *d, uint64_t u, bool negative) {
#if COMPAT_INTEGERS
  if (u > (uint64_t)LUA_MAXINTEGER) return wrong(d, "integer out of range");
  lua_pushinteger(d->L, negative ? -1 - (lua_Integer)u : (lua_Integer)u);
#else
  if (u > (uint64_t)COMPAT_EXACT - negative)
    return wrong(d, "integer out of range");
  lua_pushnumber(d->L, negative ? -1 - (double)u : (double)u);
#endif
  return true;
}

/* The chunks of a string up to its break, each of them whole text. */
static bool decode_chunks(decoder *d, enum cbor_kind kind) {
  cbor_head h;
  luaL_Buffer b;
  luaL_buffinit(d->L, &b);
  for (;;) {
    if (!unpack_head(&d->u, &h)) return false;
    if (h.kind == CBOR_BREAK) break;
    if (h.kind != kind) return wrong(d, "chunk of another type");
    if (kind == CBOR_TEXT && !utf8_valid(h.bytes.data, h.bytes.size))
      return wrong(d, "text is not UTF-8");
    luaL_addlstring(&b, h.bytes.data, h.bytes.size);
  }
  luaL_pushresult(&b);
  return true;
}

static bool decode_bignum(decoder *d, bool negative) {
  cbor_head h;
  if (!unpack_head(&d->u, &h)) return false;
  if (h.kind == CBOR_BYTES)
    lua_pushlstring(d->L, h.bytes.data, h.bytes.size);
  else if (h.kind != CBOR_BYTES_START)
    return wrong(d, "big number is not bytes");
  else if (!decode_chunks(d, CBOR_BYTES))
    return false;
  size_t n;
  const char *s = lua_tolstring(d->L, -1, &n);
  uint64_t u = 0;
  for (size_t i = 0; i < n; i++) {
    if (u >> 56) return wrong(d, "integer out of range");
    u = u << 8 | (uint8_t)s[i];
  }
  lua_pop(d->L, 1);
  return push_integer(d, u, negative);
}

/* Whether a container of `n` times `size` items may begin here. */
static bool enter(decoder *d, uint64_t n, uint64_t size, int depth) {
  uint64_t left = (uint64_t)(d->u.end - d->u.at);
  if (depth >= DEPTH_MAX) return wrong(d, "nested deeper than 64");
  if (n > left || d->owed + n * size > left)
    return wrong(d, "more items announced than there are bytes");
  if (n > INT_MAX) return wrong(d, "too many items");
  d->owed += n * size;
  return true;
}

static void new_array(lua_State *L, int n) {
  lua_createtable(L, n, 0);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &array_mt_key);
  lua_setmetatable(L, -2);
}

static bool decode_array(decoder *d, uint64_t n, int depth) {
  if (!enter(d, n, 1, depth)) return false;
  new_array(d->L, (int)n);
  for (int i = 1; i <= (int)n; i++) {
    d->owed--;
    if (!decode_item(d, depth + 1)) return false;
    lua_rawseti(d->L, -2, i);
  }
  return true;
}

static bool decode_open_array(decoder *d, int depth) {
  cbor_head h;
  if (!enter(d, 0, 1, depth)) return false;
  new_array(d->L, 0);
  for (int i = 1; unpack_head(&d->u, &h); i++) {
    if (h.kind == CBOR_BREAK) return true;
    if (!decode_value(d, &h, depth + 1)) return false;
    lua_rawseti(d->L, -2, i);
  }
  return false;
}

static bool decode_key(decoder *d, cbor_head *h, int depth) {
  if (h->kind == CBOR_TEXT) return push_text(d, h->bytes);
  if (!decode_value(d, h, depth)) return false;
  if (h->kind == CBOR_FLOAT && isnan(h->f))
    return wrong(d, "key is not a number");
  return true;
}

/* Into the table on the top; the head of `key` is read already. */
static bool decode_pair(decoder *d, cbor_head *key, int depth) {
  if (!decode_key(d, key, depth) || !decode_item(d, depth)) return false;
  lua_rawset(d->L, -3);
  return true;
}

static bool decode_map(decoder *d, uint64_t n, int depth) {
  cbor_head h;
  if (!enter(d, n, 2, depth)) return false;
  lua_createtable(d->L, 0, (int)n);
  for (; n > 0; n--) {
    d->owed -= 2;
    if (!unpack_head(&d->u, &h)) return false;
    if (!decode_pair(d, &h, depth + 1)) return false;
  }
  return true;
}

static bool decode_open_map(decoder *d, int depth) {
  cbor_head h;
  if (!enter(d, 0, 2, depth)) return false;
  lua_newtable(d->L);
  while (unpack_head(&d->u, &h)) {
    if (h.kind == CBOR_BREAK) return true;
    if (!decode_pair(d, &h, depth + 1)) return false;
  }
  return false;
}

/* What `h` begins. Leaves in `h` the head behind the tags: those but the
   big numbers' say nothing that Lua could. */
static bool decode_value(decoder *d, cbor_head *h, int depth) {
  while (h->kind == CBOR_TAG && h->u != TAG_BIG && h->u != TAG_BIG_NEGATIVE)
    if (!unpack_head(&d->u, h)) return false;
  switch (h->kind) {
    case CBOR_UINT: return push_integer(d, h->u, false);
    case CBOR_NEGINT: return push_integer(d, h->u, true);
    case CBOR_TAG: return decode_bignum(d, h->u == TAG_BIG_NEGATIVE);
    case CBOR_TEXT: return push_text(d, h->bytes);
    case CBOR_BYTES: return push_bytes(d, h->bytes);
    case CBOR_TEXT_START: return decode_chunks(d, CBOR_TEXT);
    case CBOR_BYTES_START: return decode_chunks(d, CBOR_BYTES);
    case CBOR_ARRAY: return decode_array(d, h->u, depth);
    case CBOR_ARRAY_START: return decode_open_array(d, depth);
    case CBOR_MAP: return decode_map(d, h->u, depth);
    case CBOR_MAP_START: return decode_open_map(d, depth);
    case CBOR_BREAK: return wrong(d, "break outside an open length");
    case CBOR_FLOAT: lua_pushnumber(d->L, (lua_Number)h->f); break;
    case CBOR_TRUE:
    case CBOR_FALSE: lua_pushboolean(d->L, h->kind == CBOR_TRUE); break;
    case CBOR_NULL:
    case CBOR_UNDEFINED: lua_pushlightuserdata(d->L, NULL);
  }
  return true;
}

static bool decode_item(decoder *d, int depth) {
  cbor_head h;
  if (!unpack_head(&d->u, &h)) return false;
  if (h.kind == CBOR_TEXT) return push_text(d, h.bytes); /* as most are */
  return decode_value(d, &h, depth);
}

int lcbor_decode(lua_State *L, const void *data, size_t n) {
  int top = lua_gettop(L);
  decoder d = {.L = L, .why = "truncated or malformed CBOR"};
  luaL_checkstack(L, STACK_MAX, "no room to decode");
  unpacker_init(&d.u, data, n);
  if (decode_item(&d, 0)) {
    if (d.u.at == d.u.end) return 0;
    d.why = "more bytes than one value";
  }
  char line[80];
  size_t at = (size_t)(d.u.at - (const uint8_t *)data);
  snprintf(line, sizeof line, "%s at byte %zu", d.why, at);
  lua_settop(L, top);
  lua_pushstring(L, line);
  return RESPOOL_CORRUPT;
}


/* ---- respool.cbor ----------------------------------------------------- */

static int encode(lua_State *L) {
  luaL_checkany(L, 1);
  scratch *s = push_scratch(L);
  lcbor_encode(L, 1, &s->p);
  s->pinned = true; /* 5.1 collects garbage before it copies the bytes */
  lua_pushlstring(L, (const char *)s->p.data, s->p.len);
  s->pinned = false;
  return 1;
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
      encode_string(L, lua_gettop(L) - 1, p);
      encode_value(L, lua_gettop(L), p, NULL);
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
    encode_string(L, lua_gettop(L) - 1, p);
    encode_value(L, lua_gettop(L), p, NULL);
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
  luaL_checkstack(L, STACK_MAX, "no room to encode");
  scratch *s = push_scratch(L);
  packer *p = &s->p;
  size_t at = pack_map_open(p), n = pack_members(L, 2, p);
  if (lua_istable(L, 3)) n += pack_all(L, 3, p);
  pack_map_close(p, at, n);
  if (p->rc != 0) luaL_error(L, "not enough memory");
  s->pinned = true;
  lua_pushlstring(L, (const char *)p->data, p->len);
  s->pinned = false;
  return 1;
}

static int decode(lua_State *L) {
  size_t n;
  luaL_checktype(L, 1, LUA_TSTRING);
  const char *s = lua_tolstring(L, 1, &n);
  int rc = lcbor_decode(L, s, n);
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
    (!keyed || !lcbor_decode(L, key.data, key.size)) &&
    !lcbor_decode(L, value.data, value.size);
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
  lua_rawgetp(L, LUA_REGISTRYINDEX, &array_mt_key);
  lua_setmetatable(L, -2);
  return 1;
}

static const luaL_Reg functions[] = {
  {"encode", encode}, {"members", members}, {"decode", decode},
  {"skip", skip}, {"enter", enter_at}, {"fill", fill}, {"array", array},
  {NULL, NULL}
};

void lcbor_open(lua_State *L) {
  new_scratch(L);
  lua_pop(L, 1);
  lua_createtable(L, 0, 6);
  compat_register(L, functions);
  lua_pushlightuserdata(L, NULL);
  lua_setfield(L, -2, "null");
  lua_newtable(L);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &array_mt_key);
  lua_setfield(L, -2, "array_mt");
}

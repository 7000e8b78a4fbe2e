/* SPDX-License-Identifier: MIT */
/*
 * CBOR as Lua values; see decode.h. Every array bears array_mt.
 *
 * Decoding counts the items owed to the containers it is in: as each takes a
 * byte, a length that the bytes left cannot pay is refused before anything is
 * made.
 */
#include "decode.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>

#include "cbor/unpacker.h"
#include "cbor/utf8.h"
#include "compat.h"
#include "respool.h"
#include "tables.h"

#define TAG_BIG 2
#define TAG_BIG_NEGATIVE 3

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
  if (depth >= LTABLES_DEPTH) return wrong(d, "nested deeper than 64");
  if (n > left || d->owed + n * size > left)
    return wrong(d, "more items announced than there are bytes");
  if (n > INT_MAX) return wrong(d, "too many items");
  d->owed += n * size;
  return true;
}

static bool decode_array(decoder *d, uint64_t n, int depth) {
  if (!enter(d, n, 1, depth)) return false;
  lua_createtable(d->L, (int)n, 0);
  ltables_mark(d->L);
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
  lua_newtable(d->L);
  ltables_mark(d->L);
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

/* The value that `h` begins. Tags are skipped, but those of big numbers: Lua
   has nothing for them. `h` is then the head behind the tags. */
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

int ldecode_value(lua_State *L, const void *data, size_t n) {
  int top = lua_gettop(L);
  decoder d = {.L = L, .why = "truncated or malformed CBOR"};
  luaL_checkstack(L, LTABLES_STACK, "no room to decode");
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

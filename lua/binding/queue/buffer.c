/* SPDX-License-Identifier: MIT */
/*
 * The buffer of a queue's handle, which hangs below it. What is pushed
 * through it most, a payload without options, takes a shorter way: the
 * function that pusher() makes is the queue's push itself, and turns to Lua
 * only for what it does not know.
 */
#include <stdlib.h>

#include "buffer.h"

#include "handles/handle.h"
#include "handles/ticket.h"
#include "values/cbor.h"
#include "values/encode.h"
#include "values/options.h"
#include "values/result.h"
#include "values/stats.h"

#define LBUFFER "respool.buffer"

/* To its user a buffer is a part of the queue. */
static respool_buffer *check_open(lua_State *L, const handle *h) {
  if (!h->open)
    lmisuse(L, "attempt to use a closed queue");
  return h->object;
}

static respool_buffer *buffer(lua_State *L) {
  return check_open(L, luaL_checkudata(L, 1, LBUFFER));
}

static void free_buffer(void *b) {
  respool_buffer_free(b);
}

static void discard_buffer(void *b) {
  respool_buffer_discard(b);
}

static const record_field OPTIONS[] = {
  RECORD(respool_buffer_options, items, COUNT),
  RECORD(respool_buffer_options, bytes, COUNT),
  RECORD(respool_buffer_options, pushes, COUNT),
  RECORD(respool_buffer_options, interval, SPAN),
  RECORD(respool_buffer_options, max_bytes, COUNT),
  RECORD_END
};

/* buffer(queue, options): a buffer. With start.buffer its end does not wait for
   its last flush either. */
static int queue_buffer(lua_State *L) {
  handle *q = lhandle_check(L, 1, LQUEUE);
  respool_buffer_options o = RESPOOL_BUFFER_OPTIONS_INIT;
  lrecord_read(L, 2, OPTIONS, &o);
  handle *h = lhandle_new(L, LBUFFER,
                          LSTARTS(L) ? discard_buffer : free_buffer);
  respool_buffer *b;
  int rc = respool_buffer_open(q->object, &o, &b);
  if (rc)
    return lfail(L, rc);
  lhandle_open(h, q, b);
  return 1;
}


/* Pushing. */

/* push(buffer, ...): as push(queue, ...), but true. */
static int buffer_push(lua_State *L) {
  respool_buffer *b = buffer(L);
  push_form p = loptions_push(L, 4);
  p.options.wait = lrecord_span_or_zero(L, 5);
  loptions_payload(L, &p.item);
  return lresult(L, respool_buffer_push(b, &p.item, &p.options));
}

/* The upvalue of a short push. */
typedef struct pusher {
  const handle *buffer;
  const respool *store;
  uint64_t version;  /* of the payloads */
  bool encode;       /* any value, as CBOR; else strings alone, */
  respool_bytes codec; /* of this codec */
  uint64_t failures; /* of the store's flushes, when it was last asked */
} pusher;

#define LONG_WAY lua_upvalueindex(3)
#define REPORT lua_upvalueindex(4) /* the fifth keeps the codec's name */

/* Calls the function at `f` with all arguments. */
static int call_instead(lua_State *L, int f) {
  lua_pushvalue(L, f);
  lua_insert(L, 1);
  lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
  return lua_gettop(L);
}

/* The payload, the one argument of a push; false: the long way. */
static bool read_payload(lua_State *L, bool encode, respool_bytes *body) {
  if (!lua_isnoneornil(L, 3) || lua_isnoneornil(L, 2))
    return false;
  if (!encode && lua_type(L, 2) != LUA_TSTRING)
    return false;
  if (!encode) {
    body->data = lua_tolstring(L, 2, &body->size);
    return true;
  }
  packer *p = lcbor_scratch(L);
  lencode_value(L, 2, p);
  *body = (respool_bytes){ p->data, p->len };
  return true;
}

/* push(queue, payload). */
static int short_push(lua_State *L) {
  pusher *p = lua_touserdata(L, lua_upvalueindex(1));
  respool_push_options o = RESPOOL_PUSH_OPTIONS_INIT;
  respool_payload item = { .codec = p->codec };
  respool_buffer *b = check_open(L, p->buffer);
  o.version = p->version;
  if (!read_payload(L, p->encode, &item.body) ||
      respool_buffer_push(b, &item, &o) != 0)
    return call_instead(L, LONG_WAY);
  uint64_t failures = respool_flush_failures(p->store);
  if (failures != p->failures) {
    p->failures = failures;
    lua_settop(L, 1);
    call_instead(L, REPORT);
  }
  lua_pushboolean(L, 1);
  return 1;
}

/* pusher(buffer, version, codec, long_way, report): the function
   push(queue, payload, options), with the codec as in queue.push; it calls
   long_way(queue, payload, options) for pushes that it cannot do, and
   report(queue) after flushes that failed. */
static int buffer_pusher(lua_State *L) {
  const handle *h = luaL_checkudata(L, 1, LBUFFER);
  const respool *s = respool_buffer_store(check_open(L, h));
  luaL_checktype(L, 4, LUA_TFUNCTION);
  luaL_checktype(L, 5, LUA_TFUNCTION);
  pusher *p = lua_newuserdata(L, sizeof *p);
  *p = (pusher){ .buffer = h, .store = s, .encode = lua_isboolean(L, 3) };
  if (!lua_isnil(L, 2))
    p->version = lrecord_count(L, 2);
  if (!p->encode)
    p->codec = loptions_bytes(L, 3);
  lua_pushvalue(L, 1); /* keeps the handle */
  lua_pushvalue(L, 4);
  lua_pushvalue(L, 5);
  lua_pushvalue(L, 3);
  lua_pushcclosure(L, short_push, 5);
  return 1;
}


/* Folding. */

static respool_bytes name(lua_State *L) {
  respool_bytes b;
  b.data = luaL_checklstring(L, 2, &b.size);
  return b;
}

static void free_bytes(void *b) {
  free(b);
}

/* find(buffer, name): its version, 0 for none, and the bytes of its
   payload. */
static int buffer_find(lua_State *L) {
  respool_buffer *b = buffer(L);
  void **held = lguard(L, free_bytes);
  respool_bytes body;
  uint64_t version;
  int rc = respool_buffer_find(b, name(L), &body, &version);
  if (rc)
    return lfail(L, rc);
  *held = (void *)(uintptr_t)body.data;
  lrecord_push_count(L, version);
  lua_pushlstring(L, body.data ? body.data : "", body.size);
  lguard_free(held);
  return 2;
}

/* fold(buffer, name, version, bytes, codec, options, wait): true, or BUSY. */
static int buffer_fold(lua_State *L) {
  respool_buffer *b = buffer(L);
  respool_bytes under = name(L);
  uint64_t version = lrecord_count(L, 3);
  push_form p = loptions_push(L, 6);
  p.item.body = loptions_bytes(L, 4);
  p.item.codec = loptions_bytes(L, 5);
  p.options.wait = lrecord_span_or_zero(L, 7);
  return lresult(
      L, respool_buffer_fold(b, under, version, &p.item, &p.options));
}


/* Flushing. */

typedef struct flush_call {
  lcall call;
  respool_buffer *buffer;
} flush_call;

static int run_flush(lcall *c) {
  return respool_buffer_flush(((flush_call *)c)->buffer);
}

/* A buffer that is discarded meanwhile is freed by a later call. */
static flush_call *new_flush(lua_State *L) {
  respool_buffer *b = buffer(L);
  flush_call *f = lcall_new(L, sizeof *f, luaL_checkudata(L, 1, LBUFFER),
                            respool_buffer_store(b));
  f->buffer = b;
  return f;
}

static int buffer_flush(lua_State *L) {
  return lcall_do(L, &new_flush(L)->call, run_flush, lcall_true);
}

/* stat(buffer): its statistics; `error` and `code` while the last flush was one
   that failed. */
static int buffer_stat(lua_State *L) {
  respool_buffer_stats stats = RESPOOL_BUFFER_STATS_INIT;
  int rc = respool_buffer_stat(buffer(L), &stats);
  if (rc)
    return lfail(L, rc);
  lstats_buffer(L, &stats);
  return 1;
}

static const luaL_Reg METHODS[] = {
  { "push", buffer_push },
  { "pusher", buffer_pusher },
  { "find", buffer_find },
  { "fold", buffer_fold },
  { "flush", buffer_flush },
  { "stat", buffer_stat },
  { NULL, NULL }
};

static const luaL_Reg QUEUE_METHODS[] = {
  { "buffer", queue_buffer },
  { NULL, NULL }
};

void lbuffer_methods(lua_State *L) {
  compat_register(L, QUEUE_METHODS);
}

static const luaL_Reg WAITING[] = {
  { "flush", buffer_flush },
  { NULL, NULL }
};

static const luaL_Reg QUEUE_WAITING[] = {
  { "buffer", queue_buffer },
  { NULL, NULL }
};

void lbuffer_open(lua_State *L) {
  lhandle_type(L, LBUFFER, METHODS);
  lua_pop(L, 1);
  lticket_starters(L, "buffer", WAITING);
  lticket_starters(L, "queue", QUEUE_WAITING);
}

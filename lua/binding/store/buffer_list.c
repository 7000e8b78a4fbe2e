/* SPDX-License-Identifier: MIT */
/*
 * All buffers of a store, those among them that were collected before they
 * could be flushed. The callback packs what the core gives it, one after the
 * other; Lua values are made of that afterwards.
 */
#include "buffer_list.h"

#include <string.h>

#include "handles/handle.h"
#include "handles/names.h"
#include "handles/ticket.h"
#include "values/record.h"
#include "values/result.h"
#include "values/stats.h"

static respool *store(lua_State *L) {
  return lhandle_object(L, 1, LSTORE);
}


/* Flushing. */

static int run_drain(lcall *c) {
  return respool_buffers_drain(c->store);
}

/* drain(store): the flush of all buffers before it is closed. */
static int store_drain(lua_State *L) {
  lcall *c = lcall_of_store(L, sizeof *c);
  return lcall_do(L, c, run_drain, lcall_true);
}


/* Looking. */

/* A list of what `push` makes of each of the records that were packed. */
static int push_list(lua_State *L, const packer *p, size_t size,
                     void (*push)(lua_State *L, const uint8_t *at)) {
  lua_newtable(L);
  for (size_t i = 0; i < p->len / size; i++) {
    push(L, p->data + i * size);
    lua_rawseti(L, -2, (int)i + 1);
  }
  return 1;
}

typedef struct told {
  char queue[RESPOOL_NAME_MAX + 1];
  respool_buffer_stats stats;
} told;

static int add_buffer(void *p, const char *queue,
                      const respool_buffer_stats *stats) {
  told t = { .stats = *stats };
  strcpy(t.queue, queue);
  pack_raw(p, &t, sizeof t);
  return ((packer *)p)->rc;
}

static void push_buffer(lua_State *L, const uint8_t *at) {
  told t;
  memcpy(&t, at, sizeof t);
  lstats_buffer(L, &t.stats);
  lua_pushstring(L, t.queue);
  lua_setfield(L, -2, "queue");
}

/* buffers(store): a list of their figures, each with its `queue`. */
static int store_buffers(lua_State *L) {
  packer *p = lnames_packer(L);
  int rc = respool_buffers(store(L), add_buffer, p);
  if (rc)
    return lfail(L, rc);
  return push_list(L, p, sizeof(told), push_buffer);
}


/* Failures. */

/* flush_failures(store): how many flushes have failed so far. */
static int store_flush_failures(lua_State *L) {
  lrecord_push_count(L, respool_flush_failures(store(L)));
  return 1;
}

typedef struct failed {
  char queue[RESPOOL_NAME_MAX + 1];
  respool_flush_failure failure;
} failed;

static int add_failure(void *p, const respool_flush_failure *f) {
  failed t = { .failure = *f };
  strcpy(t.queue, f->queue);
  pack_raw(p, &t, sizeof t);
  return ((packer *)p)->rc;
}

static void set_string(lua_State *L, const char *name, const char *value) {
  lua_pushstring(L, value);
  lua_setfield(L, -2, name);
}

static void push_failure(lua_State *L, const uint8_t *at) {
  failed t;
  memcpy(&t, at, sizeof t);
  lua_createtable(L, 0, 4);
  set_string(L, "queue", t.queue);
  set_string(L, "error", t.failure.error_text);
  set_string(L, "code", respool_errname(t.failure.error));
  lrecord_push_count(L, t.failure.times);
  lua_setfield(L, -2, "times");
}

/* failed_flushes(store): a list of { queue =, times =, error =, code = }, of
   those that failed since it was asked last. */
static int store_failed_flushes(lua_State *L) {
  packer *p = lnames_packer(L);
  int rc = respool_flush_failed(store(L), add_failure, p);
  if (rc)
    return lfail(L, rc);
  return push_list(L, p, sizeof(failed), push_failure);
}

static const luaL_Reg METHODS[] = {
  { "drain", store_drain },
  { "buffers", store_buffers },
  { "flush_failures", store_flush_failures },
  { "failed_flushes", store_failed_flushes },
  { NULL, NULL }
};

void lbuffers_methods(lua_State *L) {
  compat_register(L, METHODS);
}

static const luaL_Reg WAITING[] = {
  { "drain", store_drain },
  { NULL, NULL }
};

void lbuffers_starters(lua_State *L) {
  lticket_starters(L, "store", WAITING);
}

/* SPDX-License-Identifier: MIT */
/*
 * Stores: opening, time, lists of names, opening and dropping queues.
 */
#include "store.h"

#include "backoff.h"
#include "figures.h"
#include "handle.h"
#include "names.h"
#include "queue.h"
#include "record.h"
#include "result.h"

static respool *store(lua_State *L) {
  return lhandle_object(L, 1, LSTORE);
}

static const record_field OPTIONS[] = {
  RECORD(respool_options, sync, INT),
  RECORD(respool_options, no_create, FLAG),
  RECORD(respool_options, manual_clock, FLAG),
  RECORD(respool_options, max_readers, UINT),
  RECORD(respool_options, max_bytes, COUNT),
  RECORD(respool_options, max_item_bytes, COUNT),
  RECORD(respool_options, seed, COUNT),
  RECORD(respool_options, read_only, FLAG),
  RECORD_END
};

static void close_store(void *s) {
  respool_close(s);
}

/* open(path, options): a store. */
static int store_open(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  respool_options o = RESPOOL_OPTIONS_INIT;
  lrecord_read(L, 2, OPTIONS, &o);
  handle *h = lhandle_new(L, LSTORE, close_store);
  respool *s;
  int rc = respool_open(path, &o, &s);
  if (rc)
    return lfail(L, rc);
  lhandle_open(h, NULL, s);
  return 1;
}

static int store_flush(lua_State *L) {
  return lresult(L, respool_flush(store(L)));
}

static int store_now(lua_State *L) {
  lrecord_push_span(L, respool_now(store(L)));
  return 1;
}

/* advance(store, seconds), which may be negative. */
static int store_advance(lua_State *L) {
  respool *s = store(L);
  double ms = luaL_checknumber(L, 2) * 1000;
  luaL_argcheck(L, ms > -9e18 && ms < 9e18, 2, "out of range");
  return lresult(L, respool_advance(s, (int64_t)(ms < 0 ? ms - .5 : ms + .5)));
}

static int store_sleep(lua_State *L) {
  respool *s = store(L);
  return lresult(L, respool_sleep(s, lrecord_span(L, 2)));
}

static int store_random(lua_State *L) {
  lua_pushnumber(L, respool_random(store(L)));
  return 1;
}

static const record_field STATS[] = {
  RECORD(respool_store_stats, map_bytes, COUNT),
  RECORD(respool_store_stats, file_bytes, COUNT),
  RECORD(respool_store_stats, used_bytes, COUNT),
  RECORD(respool_store_stats, max_bytes, COUNT),
  RECORD(respool_store_stats, last_txn, COUNT),
  RECORD(respool_store_stats, readers, UINT),
  RECORD(respool_store_stats, max_readers, UINT),
  RECORD(respool_store_stats, id, NAME),
  RECORD_END
};

static int store_stat(lua_State *L) {
  respool_store_stats stats = RESPOOL_STORE_STATS_INIT;
  int rc = respool_store_stat(store(L), &stats);
  if (rc)
    return lfail(L, rc);
  lrecord_push(L, STATS, &stats);
  lfigures_store(L, &stats);
  return 1;
}

static int store_queues(lua_State *L) {
  return lnames_list(L, store(L), respool_queues);
}

static int store_boxes(lua_State *L) {
  return lnames_list(L, store(L), respool_boxes);
}

static int store_check(lua_State *L) {
  return lnames_list(L, store(L), respool_check);
}

static int store_drop(lua_State *L) {
  respool *s = store(L);
  return lresult(L, respool_queue_drop(s, luaL_checkstring(L, 2)));
}

static void free_queue(void *q) {
  respool_queue_free(q);
}

/* queue(store, name, options): a queue. */
static int store_queue(lua_State *L) {
  handle *parent = lhandle_check(L, 1, LSTORE);
  const char *name = luaL_checkstring(L, 2);
  respool_queue_options o = RESPOOL_QUEUE_OPTIONS_INIT;
  respool_backoff backoff;
  respool_weights weights;
  lqueue_options(L, 3, &o, &backoff, &weights);
  handle *h = lhandle_new(L, LQUEUE, free_queue);
  respool_queue *q;
  int rc = respool_queue_open(parent->object, name, &o, &q);
  if (rc)
    return lfail(L, rc);
  lhandle_open(h, parent, q);
  return 1;
}

/* find(store, name): a queue that there is. */
static int store_find(lua_State *L) {
  handle *parent = lhandle_check(L, 1, LSTORE);
  const char *name = luaL_checkstring(L, 2);
  handle *h = lhandle_new(L, LQUEUE, free_queue);
  respool_queue *q;
  int rc = respool_queue_find(parent->object, name, &q);
  if (rc)
    return lfail(L, rc);
  lhandle_open(h, parent, q);
  return 1;
}

static const luaL_Reg METHODS[] = {
  { "flush", store_flush },
  { "now", store_now },
  { "advance", store_advance },
  { "sleep", store_sleep },
  { "random", store_random },
  { "stat", store_stat },
  { "queues", store_queues },
  { "boxes", store_boxes },
  { "check", store_check },
  { "drop", store_drop },
  { "queue", store_queue },
  { "find", store_find },
  { NULL, NULL }
};

void lstore_open(lua_State *L) {
  lhandle_type(L, LSTORE, METHODS);
  lua_getfield(L, -1, "__index");
  ldead_methods(L);
  ljob_methods(L);
  ltx_methods(L);
  lcare_methods(L);
  lua_pop(L, 2);
  lua_pushcfunction(L, store_open);
  lua_setfield(L, -2, "open");
}

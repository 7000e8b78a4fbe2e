/* SPDX-License-Identifier: MIT */
/*
 * Taking items from a queue, and looking at them without taking.
 */
#include "queue.h"

#include "deaths.h"
#include "handle.h"
#include "result.h"
#include "store.h"

#define LCURSOR "respool.cursor"

static respool_queue *queue(lua_State *L) {
  return lhandle_object(L, 1, LQUEUE);
}


/* Taking. */

void lqueue_take_options(lua_State *L, int index, respool_take_options *o) {
  o->items = lua_isnoneornil(L, index) ? 1 : lrecord_count(L, index);
  o->bytes = lua_isnoneornil(L, index + 1) ? 0 : lrecord_count(L, index + 1);
  o->wait = lrecord_span_or_zero(L, index + 2);
  o->lease = lrecord_span(L, index + 3);
}

/* take(queue, beside, items, bytes, wait, lease): a lot. */
static int queue_take(lua_State *L) {
  handle *q = lhandle_check(L, 1, LQUEUE);
  respool_take_options o = RESPOOL_TAKE_OPTIONS_INIT;
  lqueue_take_options(L, 3, &o);
  ldeaths_watch(L, 2, &o);
  handle *h = llot_new(L, 2);
  respool_lot *lot;
  int rc = respool_take(q->object, &o, &lot);
  ldeaths_put(L, 2, &o);
  if (rc)
    return lfail(L, rc);
  lhandle_open(h, q, lot);
  return 1;
}


/* Looking. */

const record_field LITEM_FIELDS[] = {
  RECORD(respool_item, id, COUNT),
  { "priority", offsetof(respool_item, lane), RECORD_INT },
  RECORD(respool_item, attempts, COUNT),
  RECORD(respool_item, deliveries, COUNT),
  RECORD(respool_item, crashes, COUNT),
  RECORD(respool_item, replays, COUNT),
  RECORD(respool_item, version, COUNT),
  RECORD(respool_item, key, BYTES),
  RECORD(respool_item, pushed_at, TIME),
  RECORD(respool_item, expires_at, TIME),
  RECORD(respool_item, visible_at, TIME),
  RECORD(respool_item, error, BYTES),
  RECORD(respool_item, headers, BYTES),
  RECORD(respool_item, original, BYTES),
  RECORD(respool_item, memo, BYTES),
  RECORD(respool_item, state, INT),
  RECORD_END
};

static void push_item(lua_State *L, const respool_item *item) {
  lrecord_push(L, LITEM_FIELDS, item);
  lua_pushlstring(L, item->body.data, item->body.size);
  lua_setfield(L, -2, "bytes");
}

static void free_page(void *p) {
  respool_page_free(p);
}

static int push_page(lua_State *L, void **held) {
  respool_page *p = *held;
  size_t n = respool_page_length(p);
  lua_createtable(L, (int)n, 0);
  for (size_t i = 0; i < n; i++) {
    push_item(L, respool_page_item(p, i));
    lua_rawseti(L, -2, (int)i + 1);
  }
  lguard_free(held);
  return 1;
}

/* peek(queue, limit): a list of items. */
static int queue_peek(lua_State *L) {
  respool_queue *q = queue(L);
  size_t limit = lrecord_count(L, 2);
  void **held = lguard(L, free_page);
  respool_page *p;
  int rc = respool_peek(q, limit, &p);
  if (rc)
    return lfail(L, rc);
  *held = p;
  return push_page(L, held);
}

/* get(queue, id): a list of one item. */
static int queue_get(lua_State *L) {
  respool_queue *q = queue(L);
  uint64_t id = lrecord_count(L, 2);
  void **held = lguard(L, free_page);
  respool_page *p;
  int rc = respool_get(q, id, &p);
  if (rc)
    return lfail(L, rc);
  *held = p;
  return push_page(L, held);
}

/* cursor(): where a walk begins. */
static int new_cursor(lua_State *L) {
  respool_cursor *at = lua_newuserdata(L, sizeof *at);
  *at = (respool_cursor){ 0 };
  luaL_getmetatable(L, LCURSOR);
  lua_setmetatable(L, -2);
  return 1;
}

/* browse(queue, cursor, state, limit): a list of items; the cursor moves. */
static int queue_browse(lua_State *L) {
  respool_queue *q = queue(L);
  respool_cursor *at = luaL_checkudata(L, 2, LCURSOR);
  int state = (int)luaL_optinteger(L, 3, -1);
  size_t limit = lrecord_count(L, 4);
  void **held = lguard(L, free_page);
  respool_page *p;
  int rc = respool_browse(q, state, limit, at, &p);
  if (rc)
    return lfail(L, rc);
  *held = p;
  return push_page(L, held);
}

/* history(queue, since, id, limit): a list of finished items, from the one
   with that time or, done in the same moment, that id on. */
static int queue_history(lua_State *L) {
  respool_queue *q = queue(L);
  respool_moment at = { lrecord_span_or_zero(L, 2), lrecord_count(L, 3) };
  size_t limit = lrecord_count(L, 4);
  void **held = lguard(L, free_page);
  respool_page *p;
  int rc = respool_history(q, &at, limit, &p);
  if (rc)
    return lfail(L, rc);
  *held = p;
  return push_page(L, held);
}

static const luaL_Reg METHODS[] = {
  { "take", queue_take },
  { "peek", queue_peek },
  { "get", queue_get },
  { "browse", queue_browse },
  { "history", queue_history },
  { NULL, NULL }
};

void ltake_methods(lua_State *L) {
  compat_register(L, METHODS);
}

void ltake_open(lua_State *L) {
  luaL_newmetatable(L, LCURSOR);
  lua_pop(L, 1);
  lua_pushcfunction(L, new_cursor);
  lua_setfield(L, -2, "cursor");
}

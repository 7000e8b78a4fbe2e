/* SPDX-License-Identifier: MIT */
/*
 * Taking items from a queue, and looking at them without taking.
 */
#include "take.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "cbor/packer.h"
#include "batch.h"
#include "handles/handle.h"
#include "handles/ticket.h"
#include "values/cbor.h"
#include "values/options.h"
#include "values/result.h"

#define LCURSOR "respool.cursor"

static respool_queue *queue(lua_State *L) {
  return lhandle_object(L, 1, LQUEUE);
}


/* Taking. */

static int start_take(lua_State *L, handle *q,
                      const respool_take_options *o, int batch) {
  lticket *t = lticket_new(L, lbatch_taken);
  t->queue = q;
  int rc = respool_take_start(q->object, o, &t->made);
  return lticket_return(L, t, rc, q, batch);
}

/* take(queue, beside, items, bytes, wait, lease, worker): a batch. */
static int queue_take(lua_State *L) {
  handle *q = lhandle_check(L, 1, LQUEUE);
  respool_take_options o = RESPOOL_TAKE_OPTIONS_INIT;
  loptions_take(L, 3, &o);
  handle *h = lbatch_new(L, 2);
  respool_batch *batch;
  if (LSTARTS(L))
    return start_take(L, q, &o, lua_gettop(L));
  int rc = respool_take(q->object, &o, &batch);
  if (rc)
    return lfail(L, rc);
  lhandle_open(h, q, batch);
  return 1;
}


/* Looking. */

static void push_item(lua_State *L, const respool_item *item) {
  lrecord_push(L, LITEM_FIELDS, item->about);
  lrecord_push_count(L, item->id);
  lua_setfield(L, -2, "id");
  lua_pushlstring(L, item->body.data, item->body.size);
  lua_setfield(L, -2, "bytes");
}

static void free_page(void *p) {
  respool_page_free(p);
}

/* The field "damaged" of the list on the top: ids that were passed over. */
static void push_damaged(lua_State *L, const respool_page *p) {
  size_t n;
  const uint64_t *ids = respool_page_damaged(p, &n);
  if (!ids)
    return;
  lua_createtable(L, (int)n, 0);
  for (size_t i = 0; i < n; i++) {
    lrecord_push_count(L, ids[i]);
    lua_rawseti(L, -2, (int)i + 1);
  }
  lua_setfield(L, -2, "damaged");
}

static int push_page(lua_State *L, void **held) {
  respool_page *p = *held;
  size_t n = respool_page_length(p);
  lua_createtable(L, (int)n, 0);
  for (size_t i = 0; i < n; i++) {
    push_item(L, respool_page_item(p, i));
    lua_rawseti(L, -2, (int)i + 1);
  }
  push_damaged(L, p);
  lguard_free(held);
  return 1;
}

/* peek(queue, limit): a list of items. Its field "damaged", if any, is a list
   of the ids of those that were passed over; browse's, too. */
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

/* Leases, packed one after the other. */
typedef struct lease_list {
  packer packed;
  uint64_t n;
} lease_list;

static int add_lease(void *arg, const respool_lease *l) {
  lease_list *list = arg;
  packer *p = &list->packed;
  list->n++;
  pack_array(p, l->progress_at ? 8 : 4);
  pack_uint(p, l->worker);
  pack_uint(p, l->items);
  pack_uint(p, l->first);
  pack_int(p, l->until);
  if (!l->progress_at)
    return p->rc;
  pack_uint(p, l->item);
  pack_int(p, l->progress);
  pack_int(p, l->progress_at);
  pack_string(p, l->progress_text.data, l->progress_text.size);
  return p->rc;
}

static void free_leases(void *p) {
  packer_free(&((lease_list *)p)->packed);
  free(p);
}

/* leases(queue): a list in CBOR of { worker, items, first id, until }, and
   where progress was reported also { …, item, thousandths, at, text }. */
static int queue_leases(lua_State *L) {
  respool_queue *q = queue(L);
  void **held = lguard(L, free_leases);
  lease_list *list = calloc(1, sizeof *list);
  if (!list)
    return luaL_error(L, "not enough memory");
  *held = list;
  int rc = respool_leases(q, add_lease, list);
  if (rc)
    return lfail(L, rc);
  lcbor_push_list(L, list->n, &list->packed);
  lguard_free(held);
  return 1;
}

/* get(queue, id), or get(queue, key), a string: a list of one item. */
static int queue_get(lua_State *L) {
  respool_queue *q = queue(L);
  bool by_key = lua_type(L, 2) == LUA_TSTRING;
  uint64_t id = by_key ? 0 : lrecord_count(L, 2);
  void **held = lguard(L, free_page);
  respool_page *p;
  int rc = by_key ? respool_get_key(q, loptions_bytes(L, 2), &p)
                  : respool_get(q, id, &p);
  if (rc)
    return lfail(L, rc);
  *held = p;
  return push_page(L, held);
}

/* A number of a cursor's text, from 0 to `most`; false when it is none. */
static bool read_number(const char **text, int64_t most, int64_t *n) {
  char *end;
  errno = 0;
  *n = strtoll(*text, &end, 10);
  if (!isdigit((unsigned char)**text) || errno || *n > most)
    return false;
  *text = end;
  return true;
}

static bool read_cursor(const char *text, respool_cursor *at) {
  int64_t n[5];
  static const int64_t MOST[] = { 3, 3, RESPOOL_PRIORITIES, INT64_MAX,
                                  INT64_MAX };
  for (int i = 0; i < 5; i++)
    if ((i > 0 && *text++ != '.') || !read_number(&text, MOST[i], &n[i]))
      return false;
  *at = (respool_cursor){ (int)n[0], (int)n[1], (int)n[2], (uint64_t)n[3],
                          n[4] };
  return *text == '\0';
}

/* cursor(text): where a walk begins, or goes on; nil: that is no cursor. */
static int new_cursor(lua_State *L) {
  const char *text = luaL_optstring(L, 1, "0.0.0.0.0");
  respool_cursor *at = lua_newuserdata(L, sizeof *at);
  if (!read_cursor(text, at))
    return 0;
  luaL_getmetatable(L, LCURSOR);
  lua_setmetatable(L, -2);
  return 1;
}

/* tostring(cursor): the text of which cursor() makes it again. */
static int cursor_text(lua_State *L) {
  const respool_cursor *at = luaL_checkudata(L, 1, LCURSOR);
  char text[96];
  snprintf(text, sizeof text, "%d.%d.%d.%" PRIu64 ".%" PRId64, at->phase,
           at->space, at->priority, at->id, at->at);
  lua_pushstring(L, text);
  return 1;
}

/* A walk that may be a long one. */
typedef struct walk_call {
  lcall call;
  respool_cursor *at;  /* of the Lua side, moved at the end */
  respool_cursor from;
  respool_history_cursor since;
  int state;
  size_t limit;
  respool_page *page;
} walk_call;

static void free_walk(lcall *c) {
  respool_page_free(((walk_call *)c)->page);
}

static walk_call *new_walk(lua_State *L, int limit) {
  walk_call *w = lcall_of_queue(L, sizeof *w);
  w->limit = lrecord_count(L, limit);
  w->call.free = free_walk;
  return w;
}

static int run_browse(lcall *c) {
  walk_call *w = (walk_call *)c;
  return respool_browse(c->queue, w->state, w->limit, &w->from, &w->page);
}

static int push_walk(lua_State *L, lcall *c) {
  walk_call *w = (walk_call *)c;
  if (w->at)
    *w->at = w->from;
  void **held = lguard(L, free_page);
  *held = w->page;
  w->page = NULL;
  return push_page(L, held);
}

/* browse(queue, cursor, state, limit): a list of items; the cursor moves. */
static int queue_browse(lua_State *L) {
  respool_cursor *at = luaL_checkudata(L, 2, LCURSOR);
  int state = (int)luaL_optinteger(L, 3, -1);
  walk_call *w = new_walk(L, 4);
  w->at = at;
  w->from = *at;
  w->state = state;
  return lcall_do(L, &w->call, run_browse, push_walk);
}

static int run_history(lcall *c) {
  walk_call *w = (walk_call *)c;
  return respool_history(c->queue, &w->since, w->limit, &w->page);
}

/* history(queue, since, id, limit): a list of finished items, from the one
   with that time or, done in the same moment, that id on. */
static int queue_history(lua_State *L) {
  respool_history_cursor since = { lrecord_span_or_zero(L, 2),
                                   lrecord_count(L, 3) };
  walk_call *w = new_walk(L, 4);
  w->since = since;
  return lcall_do(L, &w->call, run_history, push_walk);
}

static int run_result(lcall *c) {
  walk_call *w = (walk_call *)c;
  return respool_item_result(c->queue, w->from.id, &w->page);
}

/* result(queue, id): a list of one finished item: its id, when it was done as
   visible_at, its result as bytes. */
static int queue_result(lua_State *L) {
  walk_call *w = lcall_of_queue(L, sizeof *w);
  w->call.free = free_walk;
  w->from.id = lrecord_count(L, 2);
  return lcall_do(L, &w->call, run_result, push_walk);
}

/* wait(queue, seen, seconds): what has been seen after it; 0 is nothing. */
static int queue_wait(lua_State *L) {
  uint64_t seen = lrecord_count(L, 2);
  int rc = respool_queue_wait(queue(L), &seen, lrecord_span(L, 3));
  if (rc)
    return lfail(L, rc);
  lrecord_push_count(L, seen);
  return 1;
}

static const luaL_Reg METHODS[] = {
  { "take", queue_take },
  { "peek", queue_peek },
  { "get", queue_get },
  { "leases", queue_leases },
  { "browse", queue_browse },
  { "history", queue_history },
  { "result", queue_result },
  { "wait", queue_wait },
  { NULL, NULL }
};

void ltake_methods(lua_State *L) {
  compat_register(L, METHODS);
}

static const luaL_Reg WAITING[] = {
  { "take", queue_take },
  { "browse", queue_browse },
  { "history", queue_history },
  { "result", queue_result },
  { NULL, NULL }
};

void ltake_open(lua_State *L) {
  luaL_newmetatable(L, LCURSOR);
  lua_pushcfunction(L, cursor_text);
  lua_setfield(L, -2, "__tostring");
  lua_pop(L, 1);
  lticket_starters(L, "queue", WAITING);
  lua_pushcfunction(L, new_cursor);
  lua_setfield(L, -2, "cursor");
}

/* SPDX-License-Identifier: MIT */
/*
 * Transactions: steps gathered in the core, committed together. Beside the
 * userdata, by its number, lies the batch or queue that each step refers to:
 * it must stay, and be open, until the commit.
 */
#include "transaction.h"

#include "dead/replay.h"
#include "handles/handle.h"
#include "queue/batch.h"
#include "values/options.h"

#include "values/result.h"

#define LTX "respool.transaction"

static respool_tx *tx(lua_State *L) {
  return lhandle_object(L, 1, LTX);
}

static void free_tx(void *t) {
  respool_tx_free(t);
}

/* begin(store): a transaction. */
static int store_begin(lua_State *L) {
  handle *parent = lhandle_check(L, 1, LSTORE);
  handle *h = lhandle_new(L, LTX, free_tx);
  lua_newtable(L);
  compat_set_beside(L, -2);
  respool_tx *t;
  int rc = respool_tx_begin(parent->object, &t);
  if (rc)
    return lfail(L, rc);
  lhandle_open(h, parent, t);
  return 1;
}


/* Steps. */

/* How a step ends: its number, from 0. The value at `index` is what it
   refers to. */
static int added(lua_State *L, const respool_tx *t, int rc, int index) {
  if (rc)
    return lfail(L, rc);
  size_t step = respool_tx_savepoint(t) - 1;
  compat_get_beside(L, 1);
  lua_pushvalue(L, index);
  lua_rawseti(L, -2, (int)step + 1);
  lua_pushinteger(L, (lua_Integer)step);
  return 1;
}

/* The origin at the top: { queue =, id =, pushed_at = }, or nil; its queue is
   borrowed from the table. */
static respool_origin origin_on_top(lua_State *L) {
  int at = lua_gettop(L);
  respool_origin o = { .queue = { NULL, 0 } };
  if (!lua_istable(L, at))
    return o;
  lua_getfield(L, at, "queue");
  lua_getfield(L, at, "id");
  lua_getfield(L, at, "pushed_at");
  o.queue = loptions_bytes(L, at + 1);
  o.id = lrecord_count(L, at + 2);
  o.pushed_at = lrecord_span(L, at + 3);
  lua_settop(L, at);
  return o;
}

/* Sets the bytes on the top as the body; the origin is number `i` of the list
   at index 6, if there is one. */
static void read_body(lua_State *L, int i, respool_payload *item) {
  item->body = loptions_bytes(L, lua_gettop(L));
  if (!lua_istable(L, 6))
    return;
  lua_rawgeti(L, 6, i);
  item->origin = origin_on_top(L);
  lua_pop(L, 1);
}

/* push(tx, queue, list, codec, options, origins): pushes the bodies of the
   list. */
static int tx_push(lua_State *L) {
  respool_tx *t = tx(L);
  respool_queue *q = lhandle_object(L, 2, LQUEUE);
  luaL_checktype(L, 3, LUA_TTABLE);
  lua_settop(L, 6);
  size_t n = lua_rawlen(L, 3);
  respool_payload *items = lua_newuserdata(L, n * sizeof *items);
  push_form p = loptions_push(L, 5);
  p.item.codec = loptions_bytes(L, 4);
  for (size_t i = 0; i < n; i++) {
    items[i] = p.item;
    lua_rawgeti(L, 3, (int)i + 1); /* the list keeps it */
    read_body(L, (int)i + 1, &items[i]);
    lua_pop(L, 1);
  }
  loptions_partitions(L, 5, items, n);
  return added(L, t, respool_tx_push(t, q, items, n, &p.options, NULL), 2);
}

/* mark(tx, batch, i, mark), as batch.mark. */
static int tx_mark(lua_State *L) {
  respool_tx *t = tx(L);
  respool_batch *l = lhandle_object(L, 2, LBATCH);
  size_t i = lbatch_number(L, 3, l);
  respool_outcome o = RESPOOL_OUTCOME_INIT;
  lbatch_outcome(L, 4, &o);
  return added(L, t, respool_tx_mark(t, l, i, &o), 2);
}

/* dead letter(tx, DLQ, number, to, remove). */
static int tx_dead(lua_State *L) {
  respool_tx *t = tx(L);
  const char *dlq = luaL_checkstring(L, 2);
  uint64_t number = lrecord_count(L, 3);
  lua_settop(L, 5);
  respool_queue *to = lua_isnil(L, 4) ? NULL : lhandle_object(L, 4, LQUEUE);
  int remove = lua_toboolean(L, 5);
  return added(L, t, respool_tx_dead(t, dlq, number, to, remove), 4);
}

/* note(tx, name, bytes): saves a note; without bytes removes it. */
static int tx_note(lua_State *L) {
  respool_tx *t = tx(L);
  const char *name = luaL_checkstring(L, 2);
  lua_settop(L, 3);
  respool_bytes note = loptions_bytes(L, 3);
  return added(L, t, respool_tx_note(t, name, note), 2);
}

/* replay(tx, table), as store.replay_save. */
static int tx_replay(lua_State *L) {
  respool_tx *t = tx(L);
  respool_replay replay = RESPOOL_REPLAY_INIT;
  return added(L, t, respool_tx_replay(t, lreplay_read(L, 2, &replay)), 2);
}

/* steps(tx): how many there are. */
static int tx_steps(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)respool_tx_savepoint(tx(L)));
  return 1;
}

/* rollback(tx, n): forgets all steps but the first n. */
static int tx_rollback(lua_State *L) {
  respool_tx *t = tx(L);
  respool_tx_rollback(t, lrecord_count(L, 2));
  return 0;
}


/* Commit. */

static void check_open(lua_State *L, const handle *h) {
  if (h && !h->open)
    lmisuse(L, "transaction: the batch of one of its items is closed");
}

static int start_commit(lua_State *L) {
  handle *parent = lhandle_check(L, 1, LTX);
  lticket *t = lticket_new(L, lticket_plain);
  int rc = respool_tx_commit_start(parent->object, &t->made);
  return lticket_return(L, t, rc, parent, 0);
}

/* commit(tx): true. */
static int tx_commit(lua_State *L) {
  respool_tx *t = tx(L);
  size_t n = respool_tx_savepoint(t);
  compat_get_beside(L, 1);
  for (size_t i = 0; i < n; i++) {
    lua_rawgeti(L, -1, (int)i + 1);
    check_open(L, lua_touserdata(L, -1));
    lua_pop(L, 1);
  }
  if (LSTARTS(L))
    return start_commit(L);
  return lresult(L, respool_tx_commit(t));
}

/* id(tx, step): the first id of a push, once committed. */
static int tx_id(lua_State *L) {
  const respool_tx *t = tx(L);
  lrecord_push_count(L, respool_tx_id(t, lrecord_count(L, 2)));
  return 1;
}

/* held(tx, step): whether a push was ignored, as its key was held. */
static int tx_held(lua_State *L) {
  const respool_tx *t = tx(L);
  lua_pushboolean(L, respool_tx_duplicate(t, lrecord_count(L, 2)));
  return 1;
}

static const luaL_Reg METHODS[] = {
  { "push", tx_push },
  { "mark", tx_mark },
  { "dead_letter", tx_dead },
  { "note", tx_note },
  { "replay", tx_replay },
  { "steps", tx_steps },
  { "rollback", tx_rollback },
  { "commit", tx_commit },
  { "id", tx_id },
  { "held", tx_held },
  { NULL, NULL }
};

static const luaL_Reg STORE_METHODS[] = {
  { "begin", store_begin },
  { NULL, NULL }
};

void ltx_methods(lua_State *L) {
  compat_register(L, STORE_METHODS);
}

static const luaL_Reg WAITING[] = {
  { "commit", tx_commit },
  { NULL, NULL }
};

void ltx_open(lua_State *L) {
  lhandle_type(L, LTX, METHODS);
  lua_pop(L, 1);
  lticket_starters(L, "transaction", WAITING);
}

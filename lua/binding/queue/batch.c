/* SPDX-License-Identifier: MIT */
/*
 * Batches. The userdata is what the user holds, so that # works on it in every
 * Lua; these functions are the lower half of its methods, and the table
 * beside it belongs to the Lua side. Items are numbered from 1.
 */
#include "batch.h"

#include "handles/ticket.h"
#include "values/decode.h"
#include "values/options.h"
#include "values/result.h"

static respool_batch *batch(lua_State *L) {
  return lhandle_object(L, 1, LBATCH);
}

/* The handle at index 1, for functions that are called for each item: their
   first upvalue is the type, so that nothing needs to be looked up. */
static handle *quick_handle(lua_State *L) {
  handle *h = lua_touserdata(L, 1);
  bool ours = h && lua_getmetatable(L, 1);
  if (ours) {
    ours = lua_rawequal(L, -1, lua_upvalueindex(1));
    lua_pop(L, 1);
  }
  return ours ? h : luaL_checkudata(L, 1, LBATCH);
}

static void free_batch(void *l) {
  respool_batch_free(l);
}

handle *lbatch_new(lua_State *L, int beside) {
  luaL_checktype(L, beside, LUA_TTABLE);
  handle *h = lhandle_new(L, LBATCH, free_batch);
  lua_pushvalue(L, beside);
  compat_set_beside(L, -2);
  return h;
}

/* beside(batch): the table it was made with; also of a closed batch. */
static int batch_beside(lua_State *L) {
  luaL_checkudata(L, 1, LBATCH);
  compat_get_beside(L, 1);
  return 1;
}

static int batch_length(lua_State *L) {
  const respool_batch *l = batch(L);
  lua_pushinteger(L, l ? (lua_Integer)respool_batch_length(l) : 0);
  return 1;
}

size_t lbatch_number(lua_State *L, int index, const respool_batch *l) {
  lua_Integer i = luaL_checkinteger(L, index);
  if (!l || i < 1 || (size_t)i > respool_batch_length(l))
    lmisuse(L, "there is no item %d in this batch", (int)i);
  return (size_t)i - 1;
}

/* The number of the item asked for at index 2. */
static size_t item_number(lua_State *L, const respool_batch *l) {
  return lbatch_number(L, 2, l);
}

static const respool_item *item(lua_State *L) {
  const respool_batch *l = batch(L);
  return respool_batch_item(l, item_number(L, l));
}

/* bytes(batch, i): the payload as it was stored. */
static int batch_bytes(lua_State *L) {
  const respool_item *it = item(L);
  lua_pushlstring(L, it->body.data, it->body.size);
  return 1;
}

/* Is it CBOR, of no more than the bytes at `index`, if there are any? */
static bool is_plain(lua_State *L, int index, const respool_item *it) {
  bool bounded = !lua_isnoneornil(L, index);
  return !it->about->codec.size &&
         !(bounded && it->body.size > (size_t)lua_tointeger(L, index));
}

/* payload(batch, i, most): the payload, or nil and why it cannot be decoded;
   nil alone where the codec is another than CBOR, or there are more bytes than
   `most`, if that is given. */
static int batch_payload(lua_State *L) {
  const respool_item *it = item(L);
  if (!is_plain(L, 3, it)) {
    lua_pushnil(L);
    return 1;
  }
  if (ldecode_value(L, it->body.data, it->body.size) == 0)
    return 1;
  lua_pushnil(L);
  lua_insert(L, -2);
  return 2;
}

/* deliver(batch, i, most, type): the payload, and the item, { batch, i, false,
   payload } of that type, if one is given; nil where payload() says that. */
static int batch_deliver(lua_State *L) {
  const handle *h = quick_handle(L);
  const respool_batch *l = h->open ? h->object : batch(L);
  const respool_item *it = respool_batch_item(l, item_number(L, l));
  lua_settop(L, 4);
  if (!is_plain(L, 3, it) ||
      ldecode_value(L, it->body.data, it->body.size) != 0) {
    lua_pushnil(L);
    return 1;
  }
  if (lua_isnil(L, 4))
    return 1;
  lua_createtable(L, 4, 0);
  lua_pushvalue(L, 1);
  lua_rawseti(L, 6, 1);
  lua_pushvalue(L, 2);
  lua_rawseti(L, 6, 2);
  lua_pushboolean(L, 0);
  lua_rawseti(L, 6, 3);
  lua_pushvalue(L, 5);
  lua_rawseti(L, 6, 4);
  lua_pushvalue(L, 4);
  lua_setmetatable(L, 6);
  return 2;
}

/* field(batch, i, number): one of `fields`; 0 is the id. */
static int batch_field(lua_State *L) {
  const respool_item *it = item(L);
  lua_Integer f = luaL_checkinteger(L, 3);
  lua_Integer n = (lua_Integer)lua_tointeger(L, lua_upvalueindex(1));
  luaL_argcheck(L, f >= 0 && f <= n, 3, "no field");
  if (f)
    lrecord_push_field(L, &LITEM_FIELDS[f - 1], it->about);
  else
    lrecord_push_count(L, it->id);
  return 1;
}


/* Marks. */

/* A field of the mark at `index`, which keeps the string. */
static respool_bytes bytes_in(lua_State *L, int index, const char *name) {
  lua_getfield(L, index, name);
  respool_bytes b = loptions_bytes(L, lua_gettop(L));
  lua_pop(L, 1);
  return b;
}

static const char *text_in(lua_State *L, int index, const char *name) {
  return bytes_in(L, index, name).data;
}

void lbatch_outcome(lua_State *L, int index, respool_outcome *o) {
  if (lua_type(L, index) == LUA_TNUMBER) {
    o->kind = (int)luaL_checkinteger(L, index);
    return;
  }
  luaL_checktype(L, index, LUA_TTABLE);
  lua_getfield(L, index, "kind");
  lua_getfield(L, index, "outage");
  lua_getfield(L, index, "delay");
  o->kind = (int)luaL_checkinteger(L, -3);
  o->outage = lua_toboolean(L, -2);
  o->delay = lrecord_span(L, lua_gettop(L));
  lua_pop(L, 3);
  o->error = bytes_in(L, index, "error");
  o->trace = bytes_in(L, index, "trace");
  o->group = bytes_in(L, index, "group");
  o->reason = text_in(L, index, "reason");
  o->dlq = text_in(L, index, "dlq");
  o->memo = bytes_in(L, index, "memo");
  o->result = bytes_in(L, index, "result");
}

/* mark(batch, i, mark): a mark is its kind, or a table with kind, delay, error,
   trace, group, reason, dlq, memo, outage, result. */
static int batch_mark(lua_State *L) {
  respool_batch *l = batch(L);
  size_t i = item_number(L, l);
  respool_outcome o = RESPOOL_OUTCOME_INIT;
  lbatch_outcome(L, 3, &o);
  return lresult(L, respool_batch_mark(l, i, &o));
}

/* mark_rest(batch, mark): every item that has no mark yet. */
static int batch_mark_rest(lua_State *L) {
  respool_batch *l = batch(L);
  respool_outcome o = RESPOOL_OUTCOME_INIT;
  lbatch_outcome(L, 2, &o);
  return lresult(L, l ? respool_batch_mark_rest(l, &o) : 0);
}

/* mark_all(batch, mark): every item that is not settled. */
static int batch_mark_all(lua_State *L) {
  respool_batch *l = batch(L);
  respool_outcome o = RESPOOL_OUTCOME_INIT;
  lbatch_outcome(L, 2, &o);
  return lresult(L, l ? respool_batch_mark_all(l, &o) : 0);
}

/* held(batch): items not settled, whose lease is not known to be lost. */
static int batch_held(lua_State *L) {
  const respool_batch *l = batch(L);
  lua_pushinteger(L, (lua_Integer)respool_batch_held(l));
  return 1;
}

/* lease(batch): its token, for queue:item_held. */
static int batch_lease(lua_State *L) {
  uint64_t token = respool_batch_token(batch(L));
  lua_pushlstring(L, (const char *)&token, sizeof token);
  return 1;
}

static int batch_outcome(lua_State *L) {
  const respool_batch *l = batch(L);
  lua_pushinteger(L, respool_batch_outcome(l, item_number(L, l)));
  return 1;
}

static int batch_settled(lua_State *L) {
  const respool_batch *l = batch(L);
  lua_pushboolean(L, respool_batch_settled(l, item_number(L, l)));
  return 1;
}

/* tally(batch): how many items are settled as done, retry, release, snooze,
   dead, drop, hold. */
static int batch_tally(lua_State *L) {
  const respool_batch *l = batch(L);
  lua_Integer n[RESPOOL_HOLD + 1] = { 0 };
  for (size_t i = 0; l && i < respool_batch_length(l); i++)
    if (respool_batch_settled(l, i))
      n[respool_batch_outcome(l, i)]++;
  for (int v = RESPOOL_DONE; v <= RESPOOL_HOLD; v++)
    lua_pushinteger(L, n[v]);
  return RESPOOL_HOLD;
}


/* Settle. */

/* The push on the top: the options of a push, and queue, bytes, codec, and
   `item`, the number of the item of the batch that it belongs to, if any. */
static void read_push(lua_State *L, respool_handover *h, push_form *p) {
  int row = lua_gettop(L);
  luaL_checktype(L, row, LUA_TTABLE);
  lua_getfield(L, row, "queue");
  lua_getfield(L, row, "bytes");
  lua_getfield(L, row, "codec");
  lua_getfield(L, row, "item");
  h->queue = lhandle_object(L, row + 1, LQUEUE);
  *p = loptions_push(L, row);
  p->item.body = loptions_bytes(L, row + 2);
  p->item.codec = loptions_bytes(L, row + 3);
  h->items = &p->item;
  h->n = 1;
  h->options = &p->options;
  h->item = (size_t)lua_tointeger(L, row + 4);
  lua_settop(L, row);
}

/* The list at `index` as handovers, which live in userdata on the stack;
   their bytes belong to the list. */
static void read_pushes(lua_State *L, int index, respool_settle_options *o) {
  luaL_checktype(L, index, LUA_TTABLE);
  size_t n = lua_rawlen(L, index);
  respool_handover *pushes = lua_newuserdata(L, n * sizeof *pushes);
  push_form *forms = lua_newuserdata(L, n * sizeof *forms);
  luaL_checkstack(L, 24, NULL);
  for (size_t i = 0; i < n; i++) {
    lua_rawgeti(L, index, (int)i + 1);
    read_push(L, &pushes[i], &forms[i]);
    lua_pop(L, 1);
  }
  o->pushes = pushes;
  o->n_pushes = n;
}

static int push_settled(lua_State *L, int rc, bool taken) {
  int n = lresult(L, rc);
  if (!taken)
    return n;
  lua_pushvalue(L, -n - 1); /* the next batch lies below */
  return n + 1;
}

/* Pushes the shut batch beside the ticket at index 1. */
static handle *push_batch_beside(lua_State *L) {
  compat_get_beside(L, 1);
  lua_rawgeti(L, -1, 1);
  return lua_touserdata(L, -1);
}

int lbatch_taken(lua_State *L, int rc, const respool_result *r, lticket *t) {
  if (rc)
    return lfail(L, rc);
  lhandle_open(push_batch_beside(L), t->queue, r->batch);
  return 1;
}

static int end_settle(lua_State *L, int rc, const respool_result *r,
                      lticket *t) {
  bool taken = t->queue && (r->batch || rc == 0);
  if (taken)
    lhandle_open(push_batch_beside(L), t->queue, r->batch);
  return push_settled(L, rc, taken);
}

/* The batch to take lies on the top, if any. A batch of nothing is settled. */
static int start_settle(lua_State *L, const respool_settle_options *o,
                        handle *q) {
  handle *batch = lhandle_check(L, 1, LBATCH);
  int next = q ? lua_gettop(L) : 0;
  lticket *t = lticket_new(L, end_settle);
  t->queue = q;
  int rc = respool_batch_settle_start(batch->object, o, &t->made);
  return lticket_return(L, t, rc, batch, next);
}

/* settle(batch, no_wait, pushes): true. settle(batch, no_wait, pushes, queue,
   beside, items, bytes, wait, lease, worker): true and the next batch; after an
   error too there may be one. */
static int batch_settle(lua_State *L) {
  respool_batch *l = batch(L), *next = NULL;
  respool_settle_options o = RESPOOL_SETTLE_OPTIONS_INIT;
  respool_take_options take = RESPOOL_TAKE_OPTIONS_INIT;
  handle *q = NULL, *h = NULL;
  lua_settop(L, 10);
  o.no_wait = lua_toboolean(L, 2);
  if (!lua_isnil(L, 3))
    read_pushes(L, 3, &o);
  if (!lua_isnil(L, 4)) {
    q = lhandle_check(L, 4, LQUEUE);
    loptions_take(L, 6, &take);
    o.take = &take;
    h = lbatch_new(L, 5);
  }
  if (l && LSTARTS(L))
    return start_settle(L, &o, q);
  int rc = l ? respool_batch_settle(l, &o, &next) : 0;
  if (h && (next || rc == 0))
    lhandle_open(h, q, next);
  return push_settled(L, rc, h && h->open);
}

/* refused(batch): a list of { push =, code =, message = }, of the pushes that
   made the last settle fail. */
static int batch_refused(lua_State *L) {
  const respool_batch *l = batch(L);
  size_t n;
  const respool_refusal *list = respool_batch_refused(l, &n);
  lua_createtable(L, (int)n, 0);
  for (size_t i = 0; i < n; i++) {
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, (lua_Integer)list[i].push + 1);
    lua_setfield(L, -2, "push");
    lua_pushstring(L, respool_errname(list[i].code));
    lua_setfield(L, -2, "code");
    lua_pushstring(L, list[i].message);
    lua_setfield(L, -2, "message");
    lua_rawseti(L, -2, (int)i + 1);
  }
  return 1;
}

static int batch_lost(lua_State *L) {
  const respool_batch *l = batch(L);
  lua_pushinteger(L, l ? (lua_Integer)respool_batch_lost(l) : 0);
  return 1;
}

/* observe(batch, n, started, ended): a handler took from `started` to `ended`,
   in microseconds, with `n` items. Without `ended`, `started` is of mono(),
   and it ended now. Returns when it ended. The batch may have been closed
   meanwhile. */
static int batch_observe(lua_State *L) {
  respool_batch *l = quick_handle(L)->object;
  lua_Integer n = luaL_checkinteger(L, 2);
  double ended = lua_isnoneornil(L, 4) ? (double)respool_mono()
                                       : luaL_checknumber(L, 4);
  double us = ended - luaL_checknumber(L, 3);
  us = us > 0 && us < 9e18 ? us : 0; /* has the clock been set back? */
  for (lua_Integer i = 0; l && i < n; i++)
    respool_batch_time(l, (uint64_t)(us / (double)n + 0.5));
  lua_pushnumber(L, ended);
  return 1;
}

static int start_extend(lua_State *L) {
  handle *l = lhandle_check(L, 1, LBATCH);
  lticket *t = lticket_new(L, lticket_plain);
  int rc = respool_batch_extend_start(l->object, lrecord_span(L, 2), &t->made);
  return lticket_return(L, t, rc, l, 0);
}

static int batch_extend(lua_State *L) {
  respool_batch *l = batch(L);
  if (l && LSTARTS(L))
    return start_extend(L);
  return lresult(L, l ? respool_batch_extend(l, lrecord_span(L, 2)) : 0);
}

static int batch_keep(lua_State *L) {
  respool_batch *l = batch(L);
  return lresult(L, l ? respool_batch_keep(l) : 0);
}

static int batch_unkeep(lua_State *L) {
  respool_batch *l = batch(L);
  if (l)
    respool_batch_unkeep(l);
  return 0;
}

static const luaL_Reg FUNCTIONS[] = {
  { "beside", batch_beside },
  { "length", batch_length },
  { "bytes", batch_bytes },
  { "payload", batch_payload },
  { "mark", batch_mark },
  { "mark_rest", batch_mark_rest },
  { "mark_all", batch_mark_all },
  { "held", batch_held },
  { "lease", batch_lease },
  { "kind", batch_outcome },
  { "settled", batch_settled },
  { "tally", batch_tally },
  { "settle", batch_settle },
  { "lost", batch_lost },
  { "refused", batch_refused },
  { "extend", batch_extend },
  { "keep", batch_keep },
  { "unkeep", batch_unkeep },
  { NULL, NULL }
};

static const luaL_Reg QUICK[] = {
  { "deliver", batch_deliver },
  { "observe", batch_observe },
  { NULL, NULL }
};

static const luaL_Reg WAITING[] = {
  { "settle", batch_settle },
  { "extend", batch_extend },
  { NULL, NULL }
};

/* Pushes { id = 0, priority = 1, ... } and the last number. */
static void push_fields(lua_State *L) {
  int n = 0;
  lua_newtable(L);
  lua_pushinteger(L, 0);
  lua_setfield(L, -2, "id");
  for (; LITEM_FIELDS[n].name; n++) {
    lua_pushinteger(L, n + 1);
    lua_setfield(L, -2, LITEM_FIELDS[n].name);
  }
  lua_pushinteger(L, n);
}

/* Sets batch_type, whose __index the Lua side replaces by the methods, and
   batch, the functions above with `field` and `fields`. */
void lbatch_open(lua_State *L) {
  lhandle_type(L, LBATCH, FUNCTIONS);
  lua_pushcfunction(L, batch_length);
  lua_setfield(L, -2, "__len");
  lua_getfield(L, -1, "__index");
  for (const luaL_Reg *f = QUICK; f->name; f++) {
    lua_pushvalue(L, -2);
    lua_pushcclosure(L, f->func, 1);
    lua_setfield(L, -2, f->name);
  }
  push_fields(L);
  lua_pushcclosure(L, batch_field, 1);
  lua_setfield(L, -3, "field");
  lua_setfield(L, -2, "fields");
  lua_setfield(L, -3, "batch");
  lua_setfield(L, -2, "batch_type");
  lticket_starters(L, "batch", WAITING);
}

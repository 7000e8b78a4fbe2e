/* SPDX-License-Identifier: MIT */
/*
 * Tickets and calls; see ticket.h. A call's arguments lie in memory of their
 * own: a guard's until the call is started, then its ticket's.
 */
#include "ticket.h"

#include <stdlib.h>
#include <string.h>

#include "values/result.h"

static void free_ticket(void *t) {
  respool_ticket_free(t);
}

lticket *lticket_new(lua_State *L, lticket_end end) {
  lticket *t = lhandle_new_of(L, sizeof *t, LTICKET, free_ticket);
  t->end = end;
  return t;
}

int lticket_return(lua_State *L, lticket *t, int rc, handle *parent,
                   int batch) {
  if (rc)
    return lfail(L, rc);
  lhandle_open(&t->handle, parent, t->made);
  if (!batch)
    return 1;
  lua_newtable(L);
  lua_pushvalue(L, batch);
  lua_rawseti(L, -2, 1);
  compat_set_beside(L, -2);
  return 1;
}

int lticket_plain(lua_State *L, int rc, const respool_result *r,
                  lticket *t) {
  (void)r;
  (void)t;
  return lresult(L, rc);
}

/* poll(ticket): whether it is ready; a shut one is, to say so. */
static int ticket_poll(lua_State *L) {
  const lticket *t = luaL_checkudata(L, 1, LTICKET);
  lua_pushboolean(L, !t->handle.open || respool_ticket_poll(t->handle.object));
  return 1;
}

/* waits(ticket): nothing, or of a take that waits for items the same value for
   all that wait for its queue, and in how many seconds to poll it again, and
   when at last. */
static int ticket_waits(lua_State *L) {
  const lticket *t = luaL_checkudata(L, 1, LTICKET);
  int64_t due, left;
  if (!t->handle.open || !t->queue || !t->queue->open ||
      !respool_ticket_waits(t->handle.object, &due, &left))
    return 0;
  const respool_queue *q = t->queue->object;
  lua_pushfstring(L, "%p %s", (void *)respool_queue_store(q),
                  respool_queue_name(q));
  lua_pushnumber(L, (lua_Number)due / 1000);
  lua_pushnumber(L, (lua_Number)left / 1000);
  return 3;
}

/* whom(ticket): the process that its store waits for, if it does. */
static int ticket_whom(lua_State *L) {
  const lticket *t = luaL_checkudata(L, 1, LTICKET);
  char whom[64] = "";
  if (t->handle.open)
    respool_ticket_whom(t->handle.object, whom);
  if (!*whom)
    return 0;
  lua_pushstring(L, whom);
  return 1;
}

/* give_up(ticket): a take that waits is ready, with nothing. */
static int ticket_give_up(lua_State *L) {
  const lticket *t = luaL_checkudata(L, 1, LTICKET);
  if (t->handle.open)
    respool_ticket_give_up(t->handle.object);
  return 0;
}

static int say_closed(lua_State *L) {
  lua_pushnil(L);
  lua_pushliteral(L, "the store or queue was closed meanwhile");
  lua_pushliteral(L, "CLOSED");
  return 3;
}

/* finish(ticket): what the function that started it would have returned. */
static int ticket_finish(lua_State *L) {
  lticket *t = luaL_checkudata(L, 1, LTICKET);
  respool_result r = RESPOOL_RESULT_INIT;
  if (!t->handle.open)
    return say_closed(L);
  int rc = respool_ticket_finish(t->handle.object, &r);
  return t->end(L, rc, &r, t);
}

static const luaL_Reg METHODS[] = {
  { "poll", ticket_poll },
  { "waits", ticket_waits },
  { "whom", ticket_whom },
  { "give_up", ticket_give_up },
  { "finish", ticket_finish },
  { NULL, NULL }
};

void lticket_open(lua_State *L) {
  lhandle_type(L, LTICKET, METHODS);
  lua_pop(L, 1);
  lua_newtable(L);
  lua_setfield(L, -2, "start");
}

void lticket_starters(lua_State *L, const char *name, const luaL_Reg *l) {
  lua_getfield(L, -1, "start");
  lua_getfield(L, -1, name);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, name);
  }
  for (; l->name; l++) {
    lua_pushboolean(L, 1);
    lua_pushcclosure(L, l->func, 1);
    lua_setfield(L, -2, l->name);
  }
  lua_pop(L, 2);
}


/* Calls. */

static void free_call(void *arg) {
  lcall *c = arg;
  if (c->free)
    c->free(c);
  respool_queue_free(c->queue);
  free(c);
}

void *lcall_new(lua_State *L, size_t size, handle *parent, respool *s) {
  void **held = lguard(L, free_call);
  lcall *c = calloc(1, size);
  if (!c)
    luaL_error(L, "not enough memory");
  c->parent = parent;
  c->store = s;
  *held = c;
  return c;
}

void *lcall_of_store(lua_State *L, size_t size) {
  handle *s = lhandle_check(L, 1, LSTORE);
  return lcall_new(L, size, s, s->object);
}

void *lcall_of_queue(lua_State *L, size_t size) {
  handle *q = lhandle_check(L, 1, LQUEUE);
  lcall *c = lcall_new(L, size, q, respool_queue_store(q->object));
  c->queue = respool_queue_ref(q->object);
  return c;
}

static int run_call(void *arg) {
  lcall *c = arg;
  return c->run(c);
}

static int end_call(lua_State *L, int rc, const respool_result *r,
                    lticket *t) {
  (void)r;
  return rc ? lfail(L, rc) : t->call->push(L, t->call);
}

/* With the guard on the top, which gives its object up. */
static int start_call(lua_State *L, lcall *c) {
  void **held = lua_touserdata(L, -1);
  lticket *t = lticket_new(L, end_call);
  t->call = c;
  int rc = respool_call(c->store, run_call, free_call, c, &t->made);
  if (rc)
    return lfail(L, rc);
  *held = NULL;
  return lticket_return(L, t, 0, c->parent, 0);
}

int lcall_do(lua_State *L, lcall *c, int (*run)(lcall *c),
             int (*push)(lua_State *L, lcall *c)) {
  c->run = run;
  c->push = push;
  if (LSTARTS(L))
    return start_call(L, c);
  int rc = run(c);
  return rc ? lfail(L, rc) : push(L, c);
}

int lcall_true(lua_State *L, lcall *c) {
  (void)c;
  lua_pushboolean(L, 1);
  return 1;
}

void lcall_name(lua_State *L, int index, lname name) {
  size_t n;
  const char *text = luaL_checklstring(L, index, &n);
  if (n > RESPOOL_NAME_MAX)
    n = RESPOOL_NAME_MAX + 1;
  memcpy(name, text, n);
  name[n] = '\0';
}

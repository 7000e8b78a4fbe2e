/* SPDX-License-Identifier: MIT */
/*
 * Failures that happened elsewhere are pushed as dead letters of a queue.
 */
#include "dead_push.h"

#include "base/arena.h"
#include "handles/ticket.h"
#include "values/options.h"

/* All that is pointed to lies in the arena. */
typedef struct dead_push_call {
  lcall call;
  arena memory;
  respool_payload item;
  respool_dead_push_options options;
  lname dlq, reason;
  uint64_t number;
} dead_push_call;

static void free_dead_push(lcall *c) {
  arena_free(&((dead_push_call *)c)->memory);
}

static void own(lua_State *L, dead_push_call *d, respool_bytes *b) {
  if (b->size && arena_copy(&d->memory, *b, b))
    luaL_error(L, "not enough memory");
}

static respool_bytes field(lua_State *L, dead_push_call *d, const char *name) {
  lua_getfield(L, 5, name);
  respool_bytes b = loptions_bytes(L, -1);
  own(L, d, &b);
  lua_pop(L, 1);
  return b;
}

static void read_item(lua_State *L, dead_push_call *d) {
  push_form p = loptions_push(L, 4);
  d->options.priority = p.options.priority;
  d->options.version = p.options.version;
  d->item = p.item;
  loptions_payload(L, &d->item);
  own(L, d, &d->item.body);
  own(L, d, &d->item.codec);
  own(L, d, &d->item.headers);
  own(L, d, &d->item.key);
}

static void read_death(lua_State *L, dead_push_call *d) {
  d->options.error = field(L, d, "error");
  d->options.trace = field(L, d, "trace");
  d->options.group = field(L, d, "group");
  lua_getfield(L, 5, "attempts");
  d->options.attempts = lrecord_count(L, lua_gettop(L));
  lua_getfield(L, 5, "dlq");
  lcall_name(L, lua_gettop(L), d->dlq);
  d->options.dlq = d->dlq;
  lua_pop(L, 2);
}

static int run_dead_push(lcall *c) {
  dead_push_call *d = (dead_push_call *)c;
  return respool_dead_push(c->queue, &d->item, &d->options, &d->number);
}

static int push_number(lua_State *L, lcall *c) {
  lrecord_push_count(L, ((dead_push_call *)c)->number);
  return 1;
}

/* dead_push(queue, payload, codec, options of a push, death): the number of the
   dead letter. The death has dlq, attempts, error, group, trace. */
static int dead_push(lua_State *L) {
  luaL_checktype(L, 5, LUA_TTABLE);
  lua_settop(L, 5);
  dead_push_call *d = lcall_of_queue(L, sizeof *d);
  arena_init(&d->memory);
  d->options =
      (respool_dead_push_options)RESPOOL_DEAD_PUSH_OPTIONS_INIT;
  d->call.free = free_dead_push;
  read_item(L, d);
  read_death(L, d);
  return lcall_do(L, &d->call, run_dead_push, push_number);
}

static const luaL_Reg METHODS[] = {
  { "dead_push", dead_push },
  { NULL, NULL }
};

void ldead_push_methods(lua_State *L) {
  compat_register(L, METHODS);
}

void ldead_push_starters(lua_State *L) {
  lticket_starters(L, "queue", METHODS);
}

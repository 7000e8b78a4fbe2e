/* SPDX-License-Identifier: MIT */
/*
 * Schedules: saving, listing, firing.
 */
#include "schedule.h"

#include <string.h>

#include "base/arena.h"
#include "cbor/packer.h"
#include "handles/ticket.h"
#include "values/cbor.h"
#include "values/options.h"
#include "values/result.h"

/* Arguments and results; all that is pointed to lies in the arena. */
typedef struct schedule_call {
  lcall call;
  arena memory;
  lname name;
  bool all;
  respool_schedule schedule;
  respool_payload payload;
  bool has_payload;
  respool_tick tick;
  respool_fired fired;
  int64_t ms;
  int paused;
  uint64_t id, n;
  packer list;
} schedule_call;

static void free_schedule(lcall *c) {
  schedule_call *s = (schedule_call *)c;
  arena_free(&s->memory);
  packer_free(&s->list);
}

/* A call whose first argument is a name, or nil for all. */
static schedule_call *new_call(lua_State *L) {
  schedule_call *s = lcall_of_store(L, sizeof *s);
  arena_init(&s->memory);
  packer_init(&s->list);
  s->call.free = free_schedule;
  s->schedule = (respool_schedule)RESPOOL_SCHEDULE_INIT;
  s->tick = (respool_tick)RESPOOL_TICK_INIT;
  s->fired = (respool_fired)RESPOOL_FIRED_INIT;
  s->all = lua_isnoneornil(L, 2);
  if (!s->all)
    lcall_name(L, 2, s->name);
  return s;
}

/* Its own copy, a NUL behind it. */
static respool_bytes own(lua_State *L, schedule_call *s, int index) {
  respool_bytes b = loptions_bytes(L, index), copy;
  if (!b.data)
    return b;
  b.size++;
  if (arena_copy(&s->memory, b, &copy))
    luaL_error(L, "not enough memory");
  copy.size--;
  return copy;
}

static respool_bytes field(lua_State *L, schedule_call *s, const char *name) {
  lua_getfield(L, 3, name);
  respool_bytes b = own(L, s, lua_gettop(L));
  lua_pop(L, 1);
  return b;
}


/* Saving. */

static const record_field NUMBERS[] = {
  { "priority", offsetof(respool_schedule, priority), RECORD_INT },
  { "version", offsetof(respool_schedule, version), RECORD_COUNT },
  { "missed", offsetof(respool_schedule, missed), RECORD_INT },
  RECORD_END
};

static int run_save(lcall *c) {
  const schedule_call *s = (const schedule_call *)c;
  return respool_schedule_save(c->store, s->name, &s->schedule);
}

/* schedule_save(store, name, { cron, timezone, queue, body, codec, priority,
   version, missed }); no body: programs make the payload. */
static int schedule_save(lua_State *L) {
  luaL_checktype(L, 3, LUA_TTABLE);
  lua_settop(L, 3);
  schedule_call *s = new_call(L);
  lrecord_read(L, 3, NUMBERS, &s->schedule);
  s->schedule.cron = field(L, s, "cron").data;
  s->schedule.timezone = field(L, s, "timezone").data;
  s->schedule.queue = field(L, s, "queue").data;
  s->schedule.payload.body = field(L, s, "body");
  s->schedule.payload.codec = field(L, s, "codec");
  return lcall_do(L, &s->call, run_save, lcall_true);
}

static int run_pause(lcall *c) {
  const schedule_call *s = (const schedule_call *)c;
  return respool_schedule_pause(c->store, s->name, s->paused);
}

/* schedule_pause(store, name, paused) */
static int schedule_pause(lua_State *L) {
  schedule_call *s = new_call(L);
  s->paused = lua_toboolean(L, 3);
  return lcall_do(L, &s->call, run_pause, lcall_true);
}

static int run_remove(lcall *c) {
  return respool_schedule_remove(c->store, ((schedule_call *)c)->name);
}

static int schedule_remove(lua_State *L) {
  return lcall_do(L, &new_call(L)->call, run_remove, lcall_true);
}


/* Listing. The core's callback may not touch Lua, so it packs CBOR. */

static void pair_bytes(packer *p, const char *name, respool_bytes b) {
  pack_text(p, name, strlen(name));
  if (b.data)
    pack_bytes(p, b.data, b.size);
  else
    pack_null(p);
}

static int add_schedule(void *arg, const respool_schedule *d) {
  schedule_call *s = arg;
  packer *p = &s->list;
  s->n++;
  pack_map(p, 14);
  lcbor_pair_text(p, "name", d->name);
  lcbor_pair_text(p, "cron", d->cron);
  lcbor_pair_text(p, "timezone", d->timezone);
  lcbor_pair_text(p, "queue", d->queue);
  pair_bytes(p, "bytes", d->payload.body);
  pair_bytes(p, "codec", d->payload.codec);
  lcbor_pair_count(p, "priority", (uint64_t)d->priority);
  lcbor_pair_count(p, "version", d->version);
  lcbor_pair_count(p, "missed", (uint64_t)d->missed);
  lcbor_pair_count(p, "paused", d->paused != 0);
  lcbor_pair_count(p, "next_at", (uint64_t)d->next_at);
  lcbor_pair_count(p, "last_at", (uint64_t)d->last_at);
  lcbor_pair_count(p, "fired", d->fired);
  lcbor_pair_count(p, "missed_ticks", d->missed_ticks);
  return p->rc;
}

static int run_list(lcall *c) {
  schedule_call *s = (schedule_call *)c;
  return respool_schedules(c->store, s->all ? NULL : s->name, add_schedule,
                           s);
}

static int push_list(lua_State *L, lcall *c) {
  const schedule_call *s = (const schedule_call *)c;
  return lcbor_push_list(L, s->n, &s->list);
}

/* schedules(store, name): a list of maps in CBOR; times in milliseconds, 0:
   none. Without a name all. */
static int schedules(lua_State *L) {
  return lcall_do(L, &new_call(L)->call, run_list, push_list);
}


/* Firing. */

static const record_field TICK[] = {
  RECORD(respool_tick, due, FLAG),
  RECORD(respool_tick, at, TIME),
  RECORD(respool_tick, next_at, TIME),
  RECORD(respool_tick, late, COUNT),
  RECORD(respool_tick, revision, COUNT),
  RECORD_END
};

static int run_tick(lcall *c) {
  schedule_call *s = (schedule_call *)c;
  return respool_schedule_tick(c->store, s->name, &s->tick);
}

static int push_tick(lua_State *L, lcall *c) {
  lrecord_push(L, TICK, &((schedule_call *)c)->tick);
  return 1;
}

/* schedule_tick(store, name): what is to be done for it now. */
static int schedule_tick(lua_State *L) {
  return lcall_do(L, &new_call(L)->call, run_tick, push_tick);
}

static int push_id(lua_State *L, lcall *c) {
  lrecord_push_count(L, ((schedule_call *)c)->id);
  return 1;
}

static const respool_payload *payload_of(const schedule_call *s) {
  return s->has_payload ? &s->payload : NULL;
}

/* Bytes and codec at `index`; nil: the stored ones. */
static void read_payload(lua_State *L, schedule_call *s, int index) {
  s->has_payload = !lua_isnoneornil(L, index);
  s->payload.body = own(L, s, index);
  s->payload.codec = own(L, s, index + 1);
}

static int run_fire(lcall *c) {
  schedule_call *s = (schedule_call *)c;
  return respool_schedule_fire(c->store, s->name, &s->tick, payload_of(s),
                               &s->id);
}

/* schedule_fire(store, name, tick, bytes, codec): the id of its item; 0: the
   tick was missed. */
static int schedule_fire(lua_State *L) {
  luaL_checktype(L, 3, LUA_TTABLE);
  lua_settop(L, 5);
  schedule_call *s = new_call(L);
  lrecord_read(L, 3, TICK, &s->tick);
  read_payload(L, s, 4);
  return lcall_do(L, &s->call, run_fire, push_id);
}

static int run_now(lcall *c) {
  schedule_call *s = (schedule_call *)c;
  return respool_schedule_run(c->store, s->name, payload_of(s), &s->id);
}

/* schedule_run(store, name, bytes, codec): the id. */
static int schedule_run(lua_State *L) {
  lua_settop(L, 4);
  schedule_call *s = new_call(L);
  read_payload(L, s, 3);
  return lcall_do(L, &s->call, run_now, push_id);
}

static int run_all(lcall *c) {
  schedule_call *s = (schedule_call *)c;
  return respool_schedules_fire(c->store, s->ms, &s->fired);
}

static int push_fired(lua_State *L, lcall *c) {
  const respool_fired *f = &((schedule_call *)c)->fired;
  lrecord_push_count(L, f->fired);
  lrecord_push_span(L, f->next_in);
  if (!f->failed)
    return 2;
  lua_pushstring(L, f->error_text);
  lua_pushstring(L, respool_errname(f->failed));
  return 4;
}

/* schedules_fire(store, nil, seconds): how many items, the seconds until there
   is something to fire again, and why one was not fired, with the code. */
static int schedules_fire(lua_State *L) {
  lua_settop(L, 3);
  schedule_call *s = new_call(L);
  s->ms = lrecord_span_or_zero(L, 3);
  return lcall_do(L, &s->call, run_all, push_fired);
}

static const luaL_Reg METHODS[] = {
  { "schedule_save", schedule_save },
  { "schedule_pause", schedule_pause },
  { "schedule_remove", schedule_remove },
  { "schedules", schedules },
  { "schedule_tick", schedule_tick },
  { "schedule_fire", schedule_fire },
  { "schedule_run", schedule_run },
  { "schedules_fire", schedules_fire },
  { NULL, NULL }
};

void lschedule_methods(lua_State *L) {
  compat_register(L, METHODS);
}

void lschedule_starters(lua_State *L) {
  lticket_starters(L, "store", METHODS);
}

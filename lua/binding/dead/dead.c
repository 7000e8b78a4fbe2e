/* SPDX-License-Identifier: MIT */
/*
 * Dead letters: methods of a store that take the DLQ's name.
 */
#include "dead.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cbor/packer.h"
#include "cbor/unpacker.h"
#include "handles/handle.h"
#include "handles/ticket.h"
#include "move.h"
#include "values/options.h"
#include "values/record.h"
#include "values/result.h"

static respool *store(lua_State *L) {
  return lhandle_object(L, 1, LSTORE);
}

static const char *dlq(lua_State *L) {
  return luaL_checkstring(L, 2);
}


/* Reading. */

static const record_field DEAD[] = {
  RECORD(respool_dead_letter, number, COUNT),
  RECORD(respool_dead_letter, queue, BYTES),
  RECORD(respool_dead_letter, id, COUNT),
  RECORD(respool_dead_letter, reason, BYTES),
  RECORD(respool_dead_letter, group, BYTES),
  RECORD(respool_dead_letter, error, BYTES),
  RECORD(respool_dead_letter, headers, BYTES),
  RECORD(respool_dead_letter, original, BYTES),
  RECORD(respool_dead_letter, original_codec, BYTES),
  RECORD(respool_dead_letter, pushed_at, TIME),
  RECORD(respool_dead_letter, died_at, TIME),
  RECORD(respool_dead_letter, first_failed_at, TIME),
  RECORD(respool_dead_letter, attempts, COUNT),
  RECORD(respool_dead_letter, deliveries, COUNT),
  RECORD(respool_dead_letter, crashes, COUNT),
  RECORD(respool_dead_letter, replays, COUNT),
  RECORD(respool_dead_letter, version, COUNT),
  RECORD(respool_dead_letter, key, BYTES),
  RECORD(respool_dead_letter, partition, BYTES),
  RECORD(respool_dead_letter, memo, BYTES),
  RECORD(respool_dead_letter, items, COUNT),
  { "priority", offsetof(respool_dead_letter, priority), RECORD_INT },
  RECORD(respool_dead_letter, failures, COUNT),
  RECORD(respool_dead_letter, damaged, FLAG),
  RECORD(respool_dead_letter, codec, BYTES),
  { "origin_queue", offsetof(respool_dead_letter, origin.queue),
    RECORD_BYTES },
  { "origin_id", offsetof(respool_dead_letter, origin.id), RECORD_COUNT },
  { "origin_pushed_at", offsetof(respool_dead_letter, origin.pushed_at),
    RECORD_TIME },
  RECORD_END
};

static const record_field FAILURE[] = {
  RECORD(respool_failure, at, TIME),
  RECORD(respool_failure, error, BYTES),
  RECORD(respool_failure, group, BYTES),
  RECORD(respool_failure, trace, BYTES),
  RECORD_END
};

static void push_history(lua_State *L, const respool_dead_letter *dead) {
  lua_newtable(L);
  for (size_t i = 0; i < dead->history_length; i++) {
    lrecord_push(L, FAILURE, &dead->history[i]);
    lua_rawseti(L, -2, (int)i + 1);
  }
}

static void push_dead(lua_State *L, const respool_dead_letter *dead) {
  lrecord_push(L, DEAD, dead);
  lua_pushlstring(L, dead->body.data, dead->body.size);
  lua_setfield(L, -2, "bytes");
  push_history(L, dead);
  lua_setfield(L, -2, "history");
}

static void free_dead_letters(void *l) {
  respool_dead_letters_free(l);
}

static int push_dead_letters(lua_State *L, void **held) {
  respool_dead_letters *l = *held;
  size_t n = respool_dead_letters_length(l);
  lua_createtable(L, (int)n, 0);
  for (size_t i = 0; i < n; i++) {
    push_dead(L, respool_dead_letters_at(l, i));
    lua_rawseti(L, -2, (int)i + 1);
  }
  lguard_free(held);
  return 1;
}

static const record_field LIST[] = {
  RECORD(respool_list_options, after, COUNT),
  RECORD(respool_list_options, upto, COUNT),
  RECORD(respool_list_options, limit, COUNT),
  RECORD(respool_list_options, descending, FLAG),
  RECORD(respool_list_options, no_body, FLAG),
  RECORD(respool_list_options, group, BYTES),
  RECORD(respool_list_options, bytes, COUNT),
  RECORD_END
};

/* Arguments and results of whatever may take long with a DLQ. */
typedef struct dlq_call {
  lcall call;
  lname dlq;
  char *group; /* its own copy */
  respool_list_options list;
  respool_purge_options purge;
  respool_dead_letters *dead_letters;
  packer groups;
  uint64_t *numbers, n, removed;
} dlq_call;

static void free_dlq(lcall *c) {
  dlq_call *b = (dlq_call *)c;
  respool_dead_letters_free(b->dead_letters);
  packer_free(&b->groups);
  free(b->numbers);
  free(b->group);
}

static dlq_call *new_dlq_call(lua_State *L) {
  dlq_call *b = lcall_of_store(L, sizeof *b);
  packer_init(&b->groups);
  b->call.free = free_dlq;
  lcall_name(L, 2, b->dlq);
  return b;
}

/* A group's name that was read is the table's. */
static respool_bytes own_group(lua_State *L, dlq_call *b,
                               respool_bytes group) {
  if (!group.data)
    return group;
  b->group = malloc(group.size + 1);
  if (!b->group)
    luaL_error(L, "not enough memory");
  memcpy(b->group, group.data, group.size);
  return (respool_bytes){ b->group, group.size };
}

static int run_list(lcall *c) {
  dlq_call *b = (dlq_call *)c;
  return respool_dead_list(c->store, b->dlq, &b->list, &b->dead_letters);
}

static int push_list(lua_State *L, lcall *c) {
  dlq_call *b = (dlq_call *)c;
  void **held = lguard(L, free_dead_letters);
  *held = b->dead_letters;
  b->dead_letters = NULL;
  return push_dead_letters(L, held);
}

/* With the options at index 3. */
static dlq_call *new_list_call(lua_State *L) {
  dlq_call *b = new_dlq_call(L);
  b->list = (respool_list_options)RESPOOL_LIST_OPTIONS_INIT;
  lrecord_read(L, 3, LIST, &b->list);
  b->list.group = own_group(L, b, b->list.group);
  return b;
}

/* dead_list(store, DLQ, options): a list of dead letters. */
static int dead_list(lua_State *L) {
  dlq_call *b = new_list_call(L);
  return lcall_do(L, &b->call, run_list, push_list);
}

/* Adds to the count of a group in the table on the top. */
static void add_count(lua_State *L, respool_bytes group, size_t n) {
  lua_pushlstring(L, group.size ? group.data : "", group.size);
  lua_pushvalue(L, -1);
  lua_rawget(L, -3);
  lua_Integer before = lua_tointeger(L, -1);
  lua_pop(L, 1);
  lua_pushinteger(L, before + (lua_Integer)n);
  lua_rawset(L, -3);
}

static bool same_bytes(respool_bytes a, respool_bytes b) {
  return a.size == b.size && (!a.size || !memcmp(a.data, b.data, a.size));
}

/* Dead letters of a group tend to lie together, and are counted together. */
static void push_counts(lua_State *L, const respool_dead_letters *l) {
  size_t n = respool_dead_letters_length(l), first = 0;
  lua_newtable(L);
  for (size_t i = 1; i <= n; i++) {
    respool_bytes group = respool_dead_letters_at(l, first)->group;
    if (i < n && same_bytes(group, respool_dead_letters_at(l, i)->group))
      continue;
    add_count(L, group, i - first);
    first = i;
  }
}

static int push_numbers(lua_State *L, lcall *c) {
  dlq_call *b = (dlq_call *)c;
  void **held = lguard(L, free_dead_letters);
  respool_dead_letters *l = *held = b->dead_letters;
  b->dead_letters = NULL;
  size_t n = respool_dead_letters_length(l);
  lua_createtable(L, (int)n, 0);
  for (size_t i = 0; i < n; i++) {
    lrecord_push_count(L, respool_dead_letters_at(l, i)->number);
    lua_rawseti(L, -2, (int)i + 1);
  }
  push_counts(L, l);
  lguard_free(held);
  return 2;
}

/* dead_numbers(store, DLQ, options): the numbers of dead letters, and how many
   there are of each group. */
static int dead_numbers(lua_State *L) {
  dlq_call *b = new_list_call(L);
  b->list.no_body = 1;
  return lcall_do(L, &b->call, run_list, push_numbers);
}

/* dead_get(store, DLQ, number): a list of one dead letter. */
static int dead_get(lua_State *L) {
  respool *s = store(L);
  uint64_t number = lrecord_count(L, 3);
  void **held = lguard(L, free_dead_letters);
  respool_dead_letters *l;
  int rc = respool_dead_get(s, dlq(L), number, &l);
  if (rc)
    return lfail(L, rc);
  *held = l;
  return push_dead_letters(L, held);
}

static int dead_count(lua_State *L) {
  uint64_t n;
  int rc = respool_dead_count(store(L), dlq(L), &n);
  if (rc)
    return lfail(L, rc);
  lrecord_push_count(L, n);
  return 1;
}

static int add_group(void *arg, const respool_dead_group *g) {
  packer *p = arg;
  pack_bytes(p, g->group.data, g->group.size);
  pack_bytes(p, g->reason.data, g->reason.size);
  pack_bytes(p, (const char *)g, sizeof *g);
  return p->rc;
}

static const record_field GROUP[] = {
  RECORD(respool_dead_group, count, COUNT),
  RECORD(respool_dead_group, newest, COUNT),
  RECORD(respool_dead_group, first_died_at, TIME),
  RECORD(respool_dead_group, last_died_at, TIME), RECORD_END,
};

static void push_group(lua_State *L, unpacker *u) {
  respool_bytes group = unpack_bytes(u), reason = unpack_bytes(u);
  respool_dead_group g;
  memcpy(&g, unpack_bytes(u).data, sizeof g);
  lrecord_push(L, GROUP, &g);
  lua_pushlstring(L, group.data, group.size);
  lua_setfield(L, -2, "group");
  lua_pushlstring(L, reason.data, reason.size);
  lua_setfield(L, -2, "reason");
  lua_createtable(L, RESPOOL_GROUP_HOURS, 0);
  for (int i = 0; i < RESPOOL_GROUP_HOURS; i++) {
    lrecord_push_count(L, g.hours[i]);
    lua_rawseti(L, -2, i + 1);
  }
  lua_setfield(L, -2, "hours");
}

static int run_groups(lcall *c) {
  dlq_call *b = (dlq_call *)c;
  return respool_dead_groups(c->store, b->dlq, add_group, &b->groups);
}

static int push_groups(lua_State *L, lcall *c) {
  const packer *p = &((dlq_call *)c)->groups;
  lua_newtable(L);
  unpacker u;
  unpacker_init(&u, p->data, p->len);
  for (int i = 1; u.at < u.end; i++) {
    push_group(L, &u);
    lua_rawseti(L, -2, i);
  }
  return 1;
}

/* dead_groups(store, DLQ): a list of groups. */
static int dead_groups(lua_State *L) {
  return lcall_do(L, &new_dlq_call(L)->call, run_groups, push_groups);
}


/* Removing. */

static int run_remove(lcall *c) {
  dlq_call *b = (dlq_call *)c;
  return respool_dead_remove(c->store, b->dlq, b->numbers, b->n,
                             &b->removed);
}

static int push_removed(lua_State *L, lcall *c) {
  lrecord_push_count(L, ((dlq_call *)c)->removed);
  return 1;
}

/* dead_remove(store, DLQ, numbers): how many were there. */
static int dead_remove(lua_State *L) {
  luaL_checktype(L, 3, LUA_TTABLE);
  dlq_call *b = new_dlq_call(L);
  b->n = lua_rawlen(L, 3);
  b->numbers = malloc((b->n + 1) * sizeof *b->numbers);
  if (!b->numbers)
    luaL_error(L, "not enough memory");
  for (size_t i = 0; i < b->n; i++) {
    lua_rawgeti(L, 3, (int)i + 1);
    b->numbers[i] = lrecord_count(L, lua_gettop(L));
    lua_pop(L, 1);
  }
  return lcall_do(L, &b->call, run_remove, push_removed);
}

static const record_field PURGE[] = {
  RECORD(respool_purge_options, died_before, TIME),
  RECORD(respool_purge_options, group, BYTES),
  RECORD_END
};

static int run_purge(lcall *c) {
  dlq_call *b = (dlq_call *)c;
  return respool_dead_purge(c->store, b->dlq, &b->purge, &b->removed);
}

/* dead_purge(store, DLQ, options): how many there were. */
static int dead_purge(lua_State *L) {
  dlq_call *b = new_dlq_call(L);
  b->purge = (respool_purge_options)RESPOOL_PURGE_OPTIONS_INIT;
  lrecord_read(L, 3, PURGE, &b->purge);
  b->purge.group = own_group(L, b, b->purge.group);
  return lcall_do(L, &b->call, run_purge, push_removed);
}


static const luaL_Reg METHODS[] = {
  { "dead_list", dead_list },
  { "dead_numbers", dead_numbers },
  { "dead_get", dead_get },
  { "dead_count", dead_count },
  { "dead_groups", dead_groups },
  { "dead_remove", dead_remove },
  { "dead_purge", dead_purge },
  { "dead_move", ldead_move },
  { NULL, NULL }
};

void ldead_methods(lua_State *L) {
  compat_register(L, METHODS);
}

static const luaL_Reg WAITING[] = {
  { "dead_list", dead_list },
  { "dead_numbers", dead_numbers },
  { "dead_groups", dead_groups },
  { "dead_remove", dead_remove },
  { "dead_purge", dead_purge },
  { "dead_move", ldead_move },
  { NULL, NULL }
};

void ldead_starters(lua_State *L) {
  lticket_starters(L, "store", WAITING);
}

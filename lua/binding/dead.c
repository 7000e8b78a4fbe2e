/* SPDX-License-Identifier: MIT */
/*
 * Dead letters: methods of a store that take the box's name.
 */
#include "handle.h"
#include "job.h"
#include "names.h"
#include "queue.h"
#include "record.h"
#include "result.h"
#include "store.h"

static respool *store(lua_State *L) {
  return lhandle_object(L, 1, LSTORE);
}

static const char *box(lua_State *L) {
  return luaL_checkstring(L, 2);
}


/* Reading. */

static const record_field LETTER[] = {
  RECORD(respool_letter, number, COUNT),
  RECORD(respool_letter, queue, BYTES),
  RECORD(respool_letter, id, COUNT),
  RECORD(respool_letter, reason, BYTES),
  RECORD(respool_letter, group, BYTES),
  RECORD(respool_letter, error, BYTES),
  RECORD(respool_letter, headers, BYTES),
  RECORD(respool_letter, original, BYTES),
  RECORD(respool_letter, pushed_at, TIME),
  RECORD(respool_letter, died_at, TIME),
  RECORD(respool_letter, first_failed_at, TIME),
  RECORD(respool_letter, attempts, COUNT),
  RECORD(respool_letter, deliveries, COUNT),
  RECORD(respool_letter, crashes, COUNT),
  RECORD(respool_letter, replays, COUNT),
  RECORD(respool_letter, version, COUNT),
  RECORD(respool_letter, key, BYTES),
  RECORD(respool_letter, memo, BYTES),
  RECORD(respool_letter, items, COUNT),
  { "priority", offsetof(respool_letter, lane), RECORD_INT },
  RECORD(respool_letter, failures, COUNT),
  RECORD_END
};

static const record_field FAILURE[] = {
  RECORD(respool_failure, at, TIME),
  RECORD(respool_failure, error, BYTES),
  RECORD(respool_failure, group, BYTES),
  RECORD(respool_failure, trace, BYTES),
  RECORD_END
};

static void push_history(lua_State *L, const respool_letter *letter) {
  lua_newtable(L);
  for (size_t i = 0; i < letter->history_length; i++) {
    lrecord_push(L, FAILURE, &letter->history[i]);
    lua_rawseti(L, -2, (int)i + 1);
  }
}

static void push_letter(lua_State *L, const respool_letter *letter) {
  lrecord_push(L, LETTER, letter);
  lua_pushlstring(L, letter->body.data, letter->body.size);
  lua_setfield(L, -2, "bytes");
  push_history(L, letter);
  lua_setfield(L, -2, "history");
}

static void free_letters(void *l) {
  respool_letters_free(l);
}

static int push_letters(lua_State *L, void **held) {
  respool_letters *l = *held;
  size_t n = respool_letters_length(l);
  lua_createtable(L, (int)n, 0);
  for (size_t i = 0; i < n; i++) {
    push_letter(L, respool_letters_at(l, i));
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
  RECORD(respool_list_options, group, TEXT),
  RECORD_END
};

/* dead_list(store, box, options): a list of letters. */
static int dead_list(lua_State *L) {
  respool *s = store(L);
  respool_list_options o = RESPOOL_LIST_OPTIONS_INIT;
  lrecord_read(L, 3, LIST, &o);
  void **held = lguard(L, free_letters);
  respool_letters *l;
  int rc = respool_dead_list(s, box(L), &o, &l);
  if (rc)
    return lfail(L, rc);
  *held = l;
  return push_letters(L, held);
}

/* dead_get(store, box, number): a list of one letter. */
static int dead_get(lua_State *L) {
  respool *s = store(L);
  uint64_t number = lrecord_count(L, 3);
  void **held = lguard(L, free_letters);
  respool_letters *l;
  int rc = respool_dead_get(s, box(L), number, &l);
  if (rc)
    return lfail(L, rc);
  *held = l;
  return push_letters(L, held);
}

static int dead_count(lua_State *L) {
  uint64_t n;
  int rc = respool_dead_count(store(L), box(L), &n);
  if (rc)
    return lfail(L, rc);
  lrecord_push_count(L, n);
  return 1;
}

static int add_group(void *arg, respool_bytes group, respool_bytes reason,
                     uint64_t count) {
  packer *p = arg;
  pack_text(p, group.data, group.size);
  pack_text(p, reason.data, reason.size);
  pack_uint(p, count);
  return p->rc;
}

static void push_group(lua_State *L, unpacker *u) {
  respool_bytes group = unpack_text(u), reason = unpack_text(u);
  lua_createtable(L, 0, 3);
  lua_pushlstring(L, group.data, group.size);
  lua_setfield(L, -2, "group");
  lua_pushlstring(L, reason.data, reason.size);
  lua_setfield(L, -2, "reason");
  lrecord_push_count(L, unpack_uint(u));
  lua_setfield(L, -2, "count");
}

/* dead_groups(store, box): a list of { group, reason, count }. */
static int dead_groups(lua_State *L) {
  respool *s = store(L);
  packer *p = lnames_packer(L);
  int rc = respool_dead_groups(s, box(L), add_group, p);
  if (rc)
    return lfail(L, rc);
  lua_newtable(L);
  unpacker u;
  unpacker_init(&u, p->data, p->len);
  for (int i = 1; u.at < u.end; i++) {
    push_group(L, &u);
    lua_rawseti(L, -2, i);
  }
  return 1;
}


/* Removing. */

/* dead_remove(store, box, numbers): how many were there. */
static int dead_remove(lua_State *L) {
  respool *s = store(L);
  luaL_checktype(L, 3, LUA_TTABLE);
  size_t n = lua_rawlen(L, 3);
  uint64_t *numbers = lua_newuserdata(L, n * sizeof *numbers), removed;
  for (size_t i = 0; i < n; i++) {
    lua_rawgeti(L, 3, (int)i + 1);
    numbers[i] = lrecord_count(L, lua_gettop(L));
    lua_pop(L, 1);
  }
  int rc = respool_dead_remove(s, box(L), numbers, n, &removed);
  if (rc)
    return lfail(L, rc);
  lrecord_push_count(L, removed);
  return 1;
}

static const record_field PURGE[] = {
  RECORD(respool_purge_options, died_before, TIME),
  RECORD(respool_purge_options, group, TEXT),
  RECORD_END
};

/* dead_purge(store, box, options): how many there were. */
static int dead_purge(lua_State *L) {
  respool *s = store(L);
  respool_purge_options o = RESPOOL_PURGE_OPTIONS_INIT;
  uint64_t removed;
  lrecord_read(L, 3, PURGE, &o);
  int rc = respool_dead_purge(s, box(L), &o, &removed);
  if (rc)
    return lfail(L, rc);
  lrecord_push_count(L, removed);
  return 1;
}


/* Moving. */

/* The move on the top: { number, bytes, headers, version }; no bytes: as it
   is. */
static void read_move(lua_State *L, respool_move *m, respool_payload *p) {
  int row = lua_gettop(L);
  luaL_checktype(L, row, LUA_TTABLE);
  for (int i = 1; i <= 4; i++)
    lua_rawgeti(L, row, i);
  m->number = lrecord_count(L, row + 1);
  m->version = lua_isnil(L, row + 4) ? 0 : lrecord_count(L, row + 4);
  m->payload = lua_isnil(L, row + 2) ? NULL : p;
  p->body = lqueue_bytes(L, row + 2);
  p->headers = lqueue_bytes(L, row + 3);
  lua_settop(L, row);
}

/* The list at `index` as moves, which live in userdata on the stack; their
   bytes belong to the list. */
static respool_move *read_moves(lua_State *L, int index, size_t n) {
  respool_move *moves = lua_newuserdata(L, n * sizeof *moves);
  respool_payload *payloads = lua_newuserdata(L, n * sizeof *payloads);
  for (size_t i = 0; i < n; i++) {
    lua_rawgeti(L, index, (int)i + 1);
    read_move(L, &moves[i], &payloads[i]);
    lua_pop(L, 1);
  }
  return moves;
}

/* dead_move(store, box, moves, to, keep_attempts, job): how many moved. */
static int dead_move(lua_State *L) {
  respool *s = store(L);
  respool_move_options o = RESPOOL_MOVE_OPTIONS_INIT;
  respool_job job = RESPOOL_JOB_INIT;
  uint64_t moved;
  lua_settop(L, 6);
  luaL_checktype(L, 3, LUA_TTABLE);
  if (!lua_isnil(L, 4))
    o.to = lhandle_object(L, 4, LQUEUE);
  o.keep_attempts = lua_toboolean(L, 5);
  if (!lua_isnil(L, 6))
    o.job = ljob_read(L, 6, &job);
  size_t n = lua_rawlen(L, 3);
  respool_move *moves = read_moves(L, 3, n);
  int rc = respool_dead_move(s, box(L), moves, n, &o, &moved);
  if (rc)
    return lfail(L, rc);
  lrecord_push_count(L, moved);
  return 1;
}


static const luaL_Reg METHODS[] = {
  { "dead_list", dead_list },
  { "dead_get", dead_get },
  { "dead_count", dead_count },
  { "dead_groups", dead_groups },
  { "dead_remove", dead_remove },
  { "dead_purge", dead_purge },
  { "dead_move", dead_move },
  { NULL, NULL }
};

void ldead_methods(lua_State *L) {
  compat_register(L, METHODS);
}

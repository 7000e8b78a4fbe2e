/* SPDX-License-Identifier: MIT */
/*
 * Moves; see move.h.
 */
#include "move.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "handles/handle.h"
#include "handles/ticket.h"
#include "replay.h"
#include "values/options.h"
#include "values/record.h"
#include "values/result.h"

typedef struct move_call {
  lcall call;
  lname dlq;
  respool_move_options options;
  respool_replay replay;
  size_t n;
  respool_move *moves;
  respool_payload *payloads;
  uint64_t moved;
  char refusal[256]; /* what a queue says that takes no such items; or "" */
} move_call;

static void free_moves(lcall *c) {
  move_call *m = (move_call *)c;
  for (size_t i = 0; m->payloads && i < m->n; i++) {
    free((void *)(uintptr_t)m->payloads[i].body.data);
    free((void *)(uintptr_t)m->payloads[i].headers.data);
    free((void *)(uintptr_t)m->payloads[i].codec.data);
  }
  free(m->payloads);
  free(m->moves);
  respool_queue_free(m->options.to);
}

static respool_bytes own_bytes(lua_State *L, int index) {
  respool_bytes b = loptions_bytes(L, index);
  if (!b.data)
    return b;
  void *copy = malloc(b.size + 1);
  if (!copy)
    luaL_error(L, "not enough memory");
  b.data = memcpy(copy, b.data, b.size);
  return b;
}

/* The move on the top: { number, bytes, codec, headers, version }; no bytes,
   or a number alone: as it is. */
static void read_move(lua_State *L, respool_move *m, respool_payload *p) {
  int row = lua_gettop(L);
  if (lua_type(L, row) == LUA_TNUMBER) {
    *m = (respool_move){ .number = lrecord_count(L, row) };
    return;
  }
  luaL_checktype(L, row, LUA_TTABLE);
  for (int i = 1; i <= 5; i++)
    lua_rawgeti(L, row, i);
  m->number = lrecord_count(L, row + 1);
  m->version = lua_isnil(L, row + 5) ? 0 : lrecord_count(L, row + 5);
  m->payload = lua_isnil(L, row + 2) ? NULL : p;
  p->body = own_bytes(L, row + 2);
  p->codec = own_bytes(L, row + 3);
  p->headers = own_bytes(L, row + 4);
  lua_settop(L, row);
}

static void read_moves(lua_State *L, int index, move_call *m) {
  m->n = lua_rawlen(L, index);
  m->moves = calloc(m->n + 1, sizeof *m->moves);
  m->payloads = calloc(m->n + 1, sizeof *m->payloads);
  if (!m->moves || !m->payloads)
    luaL_error(L, "not enough memory");
  for (size_t i = 0; i < m->n; i++) {
    lua_rawgeti(L, index, (int)i + 1);
    read_move(L, &m->moves[i], &m->payloads[i]);
    lua_pop(L, 1);
  }
}

static int run_move(lcall *c) {
  move_call *m = (move_call *)c;
  int rc = respool_dead_move(c->store, m->dlq, m->moves, m->n, &m->options,
                             &m->moved);
  if (rc != RESPOOL_INVALID)
    return rc;
  snprintf(m->refusal, sizeof m->refusal, "%s", respool_error_text());
  return 0;
}

/* The arguments are sound: what is INVALID are the dead letters. */
static int push_moved(lua_State *L, lcall *c) {
  move_call *m = (move_call *)c;
  if (m->refusal[0]) {
    lua_pushnil(L);
    lua_pushstring(L, m->refusal);
    lua_pushstring(L, respool_errname(RESPOOL_INVALID));
    return 3;
  }
  lrecord_push_count(L, m->moved);
  return 1;
}

int ldead_move(lua_State *L) {
  lua_settop(L, 6);
  luaL_checktype(L, 3, LUA_TTABLE);
  respool_queue *to = lua_isnil(L, 4) ? NULL : lhandle_object(L, 4, LQUEUE);
  move_call *m = lcall_of_store(L, sizeof *m);
  m->options = (respool_move_options)RESPOOL_MOVE_OPTIONS_INIT;
  m->replay.size = sizeof m->replay;
  m->call.free = free_moves;
  if (to)
    m->options.to = respool_queue_ref(to);
  m->options.keep_attempts = lua_toboolean(L, 5);
  if (!lua_isnil(L, 6))
    m->options.replay = lreplay_read(L, 6, &m->replay);
  lcall_name(L, 2, m->dlq);
  read_moves(L, 3, m);
  return lcall_do(L, &m->call, run_move, push_moved);
}

/* SPDX-License-Identifier: MIT */
/*
 * Named replays: the records in which a replay keeps its cursor and counts.
 */
#include "replay.h"

#include "handles/handle.h"
#include "handles/names.h"
#include "handles/ticket.h"
#include "values/record.h"
#include "values/result.h"

static respool *store(lua_State *L) {
  return lhandle_object(L, 1, LSTORE);
}

static const record_field REPLAY[] = {
  RECORD(respool_replay, name, NAME),
  RECORD(respool_replay, dlq, NAME),
  RECORD(respool_replay, to, NAME),
  RECORD(respool_replay, state, INT),
  RECORD(respool_replay, cursor, COUNT),
  RECORD(respool_replay, upto, COUNT),
  RECORD(respool_replay, seen, COUNT),
  RECORD(respool_replay, moved, COUNT),
  RECORD(respool_replay, skipped, COUNT),
  RECORD(respool_replay, failed, COUNT),
  RECORD(respool_replay, started_at, TIME),
  RECORD(respool_replay, updated_at, TIME),
  RECORD(respool_replay, revision, COUNT),
  RECORD(respool_replay, runner, NAME),
  RECORD(respool_replay, history, FLAG),
  RECORD_END
};

const respool_replay *lreplay_read(lua_State *L, int index,
                                   respool_replay *replay) {
  lrecord_read(L, index, REPLAY, replay);
  return replay;
}

/* replay_load(store, name): a table. */
static int replay_load(lua_State *L) {
  respool *s = store(L);
  respool_replay replay = RESPOOL_REPLAY_INIT;
  int rc = respool_replay_load(s, luaL_checkstring(L, 2), &replay);
  if (rc)
    return lfail(L, rc);
  lrecord_push(L, REPLAY, &replay);
  return 1;
}

/* replay_save(store, table). */
typedef struct replay_call {
  lcall call;
  respool_replay replay;
  lname name;
} replay_call;

static int run_save(lcall *c) {
  return respool_replay_save(c->store, &((replay_call *)c)->replay);
}

static int replay_save(lua_State *L) {
  replay_call *c = lcall_of_store(L, sizeof *c);
  c->replay.size = sizeof c->replay;
  lreplay_read(L, 2, &c->replay);
  return lcall_do(L, &c->call, run_save, lcall_true);
}

static int run_remove(lcall *c) {
  return respool_replay_remove(c->store, ((replay_call *)c)->name);
}

static int run_cancel(lcall *c) {
  return respool_replay_cancel(c->store, ((replay_call *)c)->name);
}

static int do_named(lua_State *L, int (*run)(lcall *c)) {
  replay_call *c = lcall_of_store(L, sizeof *c);
  lcall_name(L, 2, c->name);
  return lcall_do(L, &c->call, run, lcall_true);
}

static int replay_remove(lua_State *L) {
  return do_named(L, run_remove);
}

static int replay_cancel(lua_State *L) {
  return do_named(L, run_cancel);
}

static int replay_names(lua_State *L) {
  return lnames_list(L, store(L), respool_replays);
}

static const luaL_Reg METHODS[] = {
  { "replay_load", replay_load },
  { "replay_save", replay_save },
  { "replay_cancel", replay_cancel },
  { "replay_remove", replay_remove },
  { "replay_names", replay_names },
  { NULL, NULL }
};

void lreplay_methods(lua_State *L) {
  compat_register(L, METHODS);
}

static const luaL_Reg WAITING[] = {
  { "replay_save", replay_save },
  { "replay_cancel", replay_cancel },
  { "replay_remove", replay_remove },
  { NULL, NULL }
};

void lreplay_starters(lua_State *L) {
  lticket_starters(L, "store", WAITING);
}

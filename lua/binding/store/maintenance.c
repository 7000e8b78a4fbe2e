/* SPDX-License-Identifier: MIT */
/*
 * Maintenance of a store, a probe of its storage, and
 * compaction.
 */
#include "maintenance.h"

#include "handles/handle.h"
#include "handles/ticket.h"
#include "values/record.h"
#include "values/result.h"

static const record_field MAINTENANCE[] = {
  RECORD(respool_maintenance, expired, COUNT),
  RECORD(respool_maintenance, dead_letters, COUNT),
  RECORD(respool_maintenance, history, COUNT),
  RECORD(respool_maintenance, windows, COUNT),
  RECORD(respool_maintenance, readers, COUNT),
  RECORD(respool_maintenance, more, FLAG),
  RECORD_END
};

/* maintain(store, seconds): a table of what was done; nil: all there is. */
typedef struct maintenance_call {
  lcall call;
  int64_t ms;
  respool_maintenance out;
} maintenance_call;

static int run_maintain(lcall *c) {
  maintenance_call *m = (maintenance_call *)c;
  return respool_maintain(c->store, m->ms, &m->out);
}

static int push_maintenance(lua_State *L, lcall *c) {
  lrecord_push(L, MAINTENANCE, &((maintenance_call *)c)->out);
  return 1;
}

static int store_maintain(lua_State *L) {
  maintenance_call *c = lcall_of_store(L, sizeof *c);
  c->ms = lrecord_span_or_zero(L, 2);
  c->out.size = sizeof c->out;
  return lcall_do(L, &c->call, run_maintain, push_maintenance);
}

/* probe(store, look): seconds that a read took, and a durable write before
   it unless it is only to look. */
typedef struct probe_call {
  lcall call;
  bool look;
  uint64_t write_us, read_us;
} probe_call;

static int run_probe(lcall *c) {
  probe_call *p = (probe_call *)c;
  return respool_probe(c->store, p->look ? NULL : &p->write_us, &p->read_us);
}

static int push_probe(lua_State *L, lcall *c) {
  const probe_call *p = (probe_call *)c;
  lua_pushnumber(L, (double)p->read_us / 1e6);
  if (p->look)
    return 1;
  lua_pushnumber(L, (double)p->write_us / 1e6);
  return 2;
}

static int store_probe(lua_State *L) {
  probe_call *c = lcall_of_store(L, sizeof *c);
  c->look = lua_toboolean(L, 2);
  return lcall_do(L, &c->call, run_probe, push_probe);
}

static const record_field COMPACTION[] = {
  RECORD(respool_compaction, before, COUNT),
  RECORD(respool_compaction, after, COUNT),
  RECORD_END
};

/* compact(path, to): bytes before and after; `to` nil: in its place. */
int lmaintenance_compact(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  respool_compaction done = RESPOOL_COMPACTION_INIT;
  int rc = respool_compact(path, luaL_optstring(L, 2, NULL), &done);
  if (rc)
    return lfail(L, rc);
  lrecord_push(L, COMPACTION, &done);
  return 1;
}

static const luaL_Reg METHODS[] = {
  { "maintain", store_maintain },
  { "probe", store_probe },
  { NULL, NULL }
};

void lmaintenance_methods(lua_State *L) {
  compat_register(L, METHODS);
}

void lmaintenance_starters(lua_State *L) {
  lticket_starters(L, "store", METHODS);
}

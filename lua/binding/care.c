/* SPDX-License-Identifier: MIT */
/*
 * Care: what is done to a store now and then, a probe of its storage, and
 * compaction.
 */
#include "handle.h"
#include "record.h"
#include "result.h"
#include "store.h"

static respool *store(lua_State *L) {
  return lhandle_object(L, 1, LSTORE);
}

static const record_field CARE[] = {
  RECORD(respool_care, expired, COUNT),
  RECORD(respool_care, letters, COUNT),
  RECORD(respool_care, history, COUNT),
  RECORD(respool_care, windows, COUNT),
  RECORD(respool_care, readers, COUNT),
  RECORD(respool_care, more, FLAG),
  RECORD_END
};

/* maintain(store, seconds): a table of what was done; nil: all there is. */
static int store_maintain(lua_State *L) {
  respool *s = store(L);
  respool_care care = RESPOOL_CARE_INIT;
  int rc = respool_maintain(s, lrecord_span_or_zero(L, 2), &care);
  if (rc)
    return lfail(L, rc);
  lrecord_push(L, CARE, &care);
  return 1;
}

/* probe(store, look): seconds that a read took, and a durable write before
   it unless it is only to look. */
static int store_probe(lua_State *L) {
  uint64_t write_us, read_us;
  int look = lua_toboolean(L, 2);
  int rc = respool_probe(store(L), look ? NULL : &write_us, &read_us);
  if (rc)
    return lfail(L, rc);
  lua_pushnumber(L, (double)read_us / 1e6);
  if (look)
    return 1;
  lua_pushnumber(L, (double)write_us / 1e6);
  return 2;
}

static const record_field COMPACTION[] = {
  RECORD(respool_compaction, before, COUNT),
  RECORD(respool_compaction, after, COUNT),
  RECORD_END
};

/* compact(path, to): bytes before and after; `to` nil: in its place. */
int lcare_compact(lua_State *L) {
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

void lcare_methods(lua_State *L) {
  compat_register(L, METHODS);
}

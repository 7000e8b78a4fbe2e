/* SPDX-License-Identifier: MIT */
/*
 * Repair: a new store of what can be read of a damaged one.
 */
#include "repair.h"

#include "handles/names.h"
#include "values/record.h"
#include "values/result.h"

static const record_field SALVAGE[] = {
  RECORD(respool_salvage, queues, COUNT),
  RECORD(respool_salvage, items, COUNT),
  RECORD(respool_salvage, dead_letters, COUNT),
  RECORD(respool_salvage, set_aside, COUNT),
  RECORD(respool_salvage, nameless, COUNT),
  RECORD(respool_salvage, settled, COUNT),
  RECORD(respool_salvage, lost_items, COUNT),
  RECORD(respool_salvage, lost_dead_letters, COUNT),
  RECORD(respool_salvage, lost_records, COUNT),
  RECORD(respool_salvage, damaged_pages, COUNT),
  RECORD_END
};

/* repair(from, to): what was done, and a list of findings. */
static int repair(lua_State *L) {
  const char *from = luaL_checkstring(L, 1), *to = luaL_checkstring(L, 2);
  respool_salvage done = RESPOOL_SALVAGE_INIT;
  packer *findings = lnames_packer(L);
  int rc = respool_repair(from, to, lnames_add, findings, &done);
  if (rc)
    return lfail(L, rc);
  lrecord_push(L, SALVAGE, &done);
  lnames_push(L, findings);
  return 2;
}

void lrepair_open(lua_State *L) {
  lua_pushcfunction(L, repair);
  lua_setfield(L, -2, "repair");
}

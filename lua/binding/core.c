/* SPDX-License-Identifier: MIT */
/*
 * The C module respool.core: the C library as Lua sees it. It is the lower
 * half of require "respool" and no API of its own.
 */
#include <math.h>
#include <string.h>

#include "base/decimal.h"
#include "handles/bell.h"
#include "handles/handle.h"
#include "handles/ticket.h"
#include "queue/batch.h"
#include "queue/buffer.h"
#include "queue/queue.h"
#include "queue/take.h"
#include "store/maintenance.h"
#include "store/repair.h"
#include "store/store.h"
#include "store/transaction.h"
#include "system/file.h"
#include "system/input.h"
#include "system/process.h"
#include "system/terminal.h"
#include "system/wait.h"
#include "values/backoff.h"
#include "values/cbor.h"
#include "values/compat.h"
#include "values/result.h"

/* methods(type): the table of its methods, such as those of "respool.queue";
   of a batch they are core.batch. */
static int methods(lua_State *L) {
  luaL_getmetatable(L, luaL_checkstring(L, 1));
  if (!lua_isnil(L, -1))
    lua_getfield(L, -1, "__index");
  return 1;
}

/* error_of_store(): whether the last failing call of this thread failed for the
   store as a whole; tells a FULL store from a full queue. */
static int error_of_store(lua_State *L) {
  lua_pushboolean(L, respool_error_of_store());
  return 1;
}

/* mono(): microseconds of a clock that is never set. */
static int mono(lua_State *L) {
  lua_pushnumber(L, (double)respool_mono());
  return 1;
}

/* decimal(number, places): the shortest text that reads back as the number, or
   one with so many decimals, whatever the locale. */
static int decimal(lua_State *L) {
  char text[DECIMAL_FIXED];
  double v = luaL_checknumber(L, 1);
  size_t n;
#if COMPAT_INTEGERS
  if (lua_isinteger(L, 1) && lua_isnoneornil(L, 2)) {
    lua_pushvalue(L, 1);
    lua_tostring(L, -1); /* digits and a sign */
    return 1;
  }
#endif
  if (lua_isnoneornil(L, 2))
    n = decimal_write(v, text);
  else
    n = decimal_write_fixed(v, (int)luaL_checkinteger(L, 2), text);
  lua_pushlstring(L, text, n);
  return 1;
}

/* number(text): the number that decimal() writes so; nil of another text. */
static int number(lua_State *L) {
  double v;
  const char *text = luaL_checkstring(L, 1);
  if (text[strspn(text, "+-0123456789.eE")] || !decimal_read(text, &v))
    return 0;
  if (v == (double)(int64_t)(fabs(v) <= COMPAT_EXACT ? v : 0.5))
    lua_pushinteger(L, (lua_Integer)v);
  else
    lua_pushnumber(L, v);
  return 1;
}

static const luaL_Reg FUNCTIONS[] = {
  { "decimal", decimal },
  { "number", number },
  { "misuse", lresult_misuse },
  { "home", lresult_home },
  { "backoff_check", lbackoff_check },
  { "backoff_delay", lbackoff_delay },
  { "methods", methods },
  { "mono", mono },
  { "error_of_store", error_of_store },
  { "compact", lmaintenance_compact },
  { NULL, NULL }
};

RESPOOL_API int luaopen_respool_core(lua_State *L) {
  lguard_type(L);
  lua_newtable(L);
  compat_register(L, FUNCTIONS);
  lcbor_open(L);
  lua_setfield(L, -2, "cbor");
  lticket_open(L);
  lstore_open(L);
  lqueue_open(L);
  ltake_open(L);
  lbatch_open(L);
  lbuffer_open(L);
  ltx_open(L);
  lprocess_open(L);
  lwait_open(L);
  lbell_open(L);
  lrepair_open(L);
  lfile_open(L);
  lterminal_open(L);
  linput_open(L);
  lua_pushliteral(L, RESPOOL_VERSION_STRING);
  lua_setfield(L, -2, "version");
  return 1;
}

/* SPDX-License-Identifier: MIT */
/*
 * The C module respool.curl: requests by libcurl, for the delivery of items
 * by HTTP outside nginx; loaded by nothing else.
 */
#include <curl/curl.h>
#include <sys/resource.h>

#include "client.h"
#include "values/compat.h"
#include "request.h"

#if LIBCURL_VERSION_NUM < 0x075700
#error "libcurl 7.87 or later is needed: 'make CURL=' builds without delivery"
#endif

/* date(text): seconds since 1970 of a date as HTTP has them; or nil. */
static int date(lua_State *L) {
  time_t t = curl_getdate(luaL_checkstring(L, 1), NULL);
  if (t < 0)
    return 0;
  lua_pushnumber(L, (lua_Number)t);
  return 1;
}

/* files(n): lets this process have n open files more, if it may. */
static int files(lua_State *L) {
  lua_Integer more = luaL_checkinteger(L, 1);
  struct rlimit limit;
  luaL_argcheck(L, more >= 0 && more < 1000000, 1, "out of range");
  if (getrlimit(RLIMIT_NOFILE, &limit))
    return 0;
  rlim_t wanted = (rlim_t)more + 256;
  if (limit.rlim_cur < wanted)
    limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  return 0;
}

static const luaL_Reg FUNCTIONS[] = {
  { "client", client_new },
  { "begin", request_begin },
  { "poll", request_poll },
  { "date", date },
  { "files", files },
  { NULL, NULL }
};

__attribute__((visibility("default"))) int luaopen_respool_curl(lua_State *L);

int luaopen_respool_curl(lua_State *L) {
  if (curl_global_init(CURL_GLOBAL_DEFAULT))
    return luaL_error(L, "libcurl cannot be started");
  client_open(L);
  request_open(L);
  lua_newtable(L);
  compat_register(L, FUNCTIONS);
  return 1;
}

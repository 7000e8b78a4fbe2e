/* SPDX-License-Identifier: MIT */
#include "client.h"

#include <string.h>

#define TYPE "respool.curl.client"
#define IDLE 55L /* seconds that an unused connection is kept */

client *client_check(lua_State *L, int index) {
  return luaL_checkudata(L, index, TYPE);
}

static int client_gc(lua_State *L) {
  client *c = client_check(L, 1);
  curl_easy_cleanup(c->common);
  networks_free(c->rules);
  *c = (client){ 0 };
  return 0;
}

void client_open(lua_State *L) {
  luaL_newmetatable(L, TYPE);
  lua_pushcfunction(L, client_gc);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
}

static double seconds_field(lua_State *L, const char *name) {
  lua_getfield(L, 1, name);
  double seconds = luaL_checknumber(L, -1);
  lua_pop(L, 1);
  return seconds;
}

static void set_text(lua_State *L, client *c, CURLoption option,
                     const char *name) {
  lua_getfield(L, 1, name);
  if (!lua_isnil(L, -1) &&
      curl_easy_setopt(c->common, option, luaL_checkstring(L, -1)))
    luaL_error(L, "option '%s' is not known to this libcurl", name);
  lua_pop(L, 1);
}

static void set_trust(lua_State *L, client *c) {
  set_text(L, c, CURLOPT_CAINFO, "ca_file");
  set_text(L, c, CURLOPT_SSLCERT, "cert_file");
  set_text(L, c, CURLOPT_SSLKEY, "key_file");
  lua_getfield(L, 1, "min_tls");
  const char *least = lua_tostring(L, -1);
  long version = least && !strcmp(least, "1.3") ? CURL_SSLVERSION_TLSv1_3
                                                : CURL_SSLVERSION_TLSv1_2;
  curl_easy_setopt(c->common, CURLOPT_SSLVERSION, version);
  lua_pop(L, 1);
}

/* A proxy would connect to addresses that are not seen here, so there is none
   beside networks. */
static void set_proxy(lua_State *L, client *c) {
  if (c->rules)
    curl_easy_setopt(c->common, CURLOPT_PROXY, "");
  else
    set_text(L, c, CURLOPT_PROXY, "proxy");
}

/* How many networks the list `name` has, which are read if there is `out`. */
static size_t read_networks(lua_State *L, const char *name, network *out) {
  size_t n = 0;
  lua_getfield(L, 1, name);
  int size = lua_istable(L, -1) ? (int)lua_rawlen(L, -1) : 0;
  for (int i = 1; i <= size; i++) {
    lua_rawgeti(L, -1, i);
    const char *text = lua_tostring(L, -1);
    if (!text || (out && !networks_read(text, &out[n])))
      luaL_error(L, "'%s' is no network such as 10.0.0.0/8",
                 text ? text : luaL_typename(L, -1));
    n += networks_count(text);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return n;
}

static void set_networks(lua_State *L, client *c) {
  size_t n_allow = read_networks(L, "allow", NULL);
  size_t n_deny = read_networks(L, "deny", NULL);
  if (n_allow + n_deny == 0)
    return;
  c->rules = networks_new(n_allow, n_deny);
  if (!c->rules)
    luaL_error(L, "out of memory");
  read_networks(L, "allow", c->rules->list);
  read_networks(L, "deny", c->rules->list + n_allow);
}

static void set_manners(client *c) {
  CURL *easy = c->common;
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  /* A name server that does not answer is not waited for. */
  curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_2TLS);
  curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "");
  curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
  curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, IDLE);
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                   (long)(c->connect_timeout * 1e3) + 1);
  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)(c->timeout * 1e3) + 1);
}

int client_new(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  client *c = lua_newuserdata(L, sizeof *c);
  *c = (client){ 0 };
  luaL_getmetatable(L, TYPE);
  lua_setmetatable(L, -2);
  c->connect_timeout = seconds_field(L, "connect_timeout");
  c->timeout = seconds_field(L, "timeout");
  c->common = curl_easy_init();
  if (!c->common)
    return luaL_error(L, "out of memory");
  set_manners(c);
  set_networks(L, c);
  set_trust(L, c);
  set_proxy(L, c);
  return 1;
}

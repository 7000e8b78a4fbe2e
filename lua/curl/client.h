/* SPDX-License-Identifier: MIT */
/*
 * Clients: what the requests of one sender have in common, as a handle of
 * libcurl that is copied for each of them.
 */
#ifndef CURL_CLIENT_H
#define CURL_CLIENT_H

#include <curl/curl.h>

#include "values/compat.h"
#include "networks.h"

typedef struct client {
  CURL *common;
  networks *rules; /* NULL: any address */
  double connect_timeout, timeout;
} client;

/* The type's metatable. */
void client_open(lua_State *L);

/* client(options): connect_timeout and timeout in seconds, ca_file,
   cert_file, key_file, min_tls, proxy, allow and deny (lists of networks).
   Raises an error that names the option which is wrong. */
int client_new(lua_State *L);

client *client_check(lua_State *L, int index);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Requests: begun, then under way in the one multi handle of a Lua state
 * while poll() is called, then over. C never calls Lua.
 *
 * A status that was read is the answer, whatever becomes of the text behind
 * it: that is read for a moment only, so that the connection may be used
 * again and an error can be reported.
 */
#ifndef CURL_REQUEST_H
#define CURL_REQUEST_H

#include "values/compat.h"

/* The types' metatables. */
void request_open(lua_State *L);

/* begin(client, method, url, lines, body): a request; `lines` are those of
   its header. */
int request_begin(lua_State *L);

/* poll(seconds): waits for up to so long, goes on with what is ready then. A
   list of the requests that are over by that. */
int request_poll(lua_State *L);

#endif

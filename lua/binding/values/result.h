/* SPDX-License-Identifier: MIT */
/*
 * How a call ends: true, or nil with message and code for what the world
 * causes, or an error raised at the user's line for misuse.
 */
#ifndef BINDING_RESULT_H
#define BINDING_RESULT_H

#include "compat.h"
#include "respool.h"

/* Raises the formatted message with the place of the innermost function
   that is no part of the module. */
int lmisuse(lua_State *L, const char *fmt, ...);

/* misuse(message): the same from Lua. */
int lresult_misuse(lua_State *L);

/* home(source): functions of this source's directory are the module's, too. */
int lresult_home(lua_State *L);

/* Pushes nil, message, code and returns 3; INVALID and NOMEM raise. */
int lfail(lua_State *L, int rc);

/* Pushes nil, "cannot VERB PATH: why" and a code for an errno; returns 3. */
int lfail_file(lua_State *L, int error, const char *verb, const char *path);

/* Pushes true, or fails. */
int lresult(lua_State *L, int rc);

#endif

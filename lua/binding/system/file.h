/* SPDX-License-Identifier: MIT */
/*
 * Files.
 */
#ifndef BINDING_FILE_H
#define BINDING_FILE_H

#include "values/compat.h"

/* Pushes nil, "cannot VERB PATH: why" and a code, and returns 3. */
int lfile_failed(lua_State *L, int error, const char *verb, const char *path);

/* Adds `file` to the module on the top. */
void lfile_open(lua_State *L);

#endif

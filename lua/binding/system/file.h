/* SPDX-License-Identifier: MIT */
/*
 * Files.
 */
#ifndef BINDING_FILE_H
#define BINDING_FILE_H

#include "values/compat.h"

/* Adds `file` to the module on the top. */
void lfile_open(lua_State *L);

#endif

/* SPDX-License-Identifier: MIT */
#ifndef BINDING_FILE_WORK_H
#define BINDING_FILE_WORK_H

#include "values/compat.h"

/* Methods of a store; its table is on the top. */
void lfile_work_methods(lua_State *L);
void lfile_work_starters(lua_State *L); /* those that may wait, by ticket */

#endif

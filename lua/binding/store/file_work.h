/* SPDX-License-Identifier: MIT */
#ifndef BINDING_FILE_WORK_H
#define BINDING_FILE_WORK_H

#include "values/compat.h"

void lfile_work_methods(lua_State *L);  /* of a store; the table is on the top */
void lfile_work_starters(lua_State *L); /* those that may wait, by ticket */

#endif

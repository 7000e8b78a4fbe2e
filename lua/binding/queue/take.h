/* SPDX-License-Identifier: MIT */
/*
 * Taking items from a queue, and looking at them.
 */
#ifndef BINDING_TAKE_H
#define BINDING_TAKE_H

#include "values/compat.h"

/* Methods of a queue, for the table on the top. */
void ltake_methods(lua_State *L);

/* Makes the type of a cursor; adds `cursor` to the module on the top. */
void ltake_open(lua_State *L);

#endif

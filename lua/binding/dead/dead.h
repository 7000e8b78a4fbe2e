/* SPDX-License-Identifier: MIT */
/*
 * Dead letters and DLQs of a store.
 */
#ifndef BINDING_DEAD_H
#define BINDING_DEAD_H

#include "values/compat.h"

/* Methods of a store, for the table on the top; those that may wait, for the
   module on the top. */
void ldead_methods(lua_State *L);
void ldead_starters(lua_State *L);

#endif

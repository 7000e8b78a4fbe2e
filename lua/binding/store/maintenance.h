/* SPDX-License-Identifier: MIT */
/*
 * Maintenance of a store.
 */
#ifndef BINDING_MAINTENANCE_H
#define BINDING_MAINTENANCE_H

#include "values/compat.h"

/* Methods of a store, for the table on the top; those that may wait, for the
   module on the top. */
void lmaintenance_methods(lua_State *L);
void lmaintenance_starters(lua_State *L);

int lmaintenance_compact(lua_State *L); /* compact */

#endif

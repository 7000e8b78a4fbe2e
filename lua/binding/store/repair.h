/* SPDX-License-Identifier: MIT */
/*
 * Repair of a damaged store.
 */
#ifndef BINDING_REPAIR_H
#define BINDING_REPAIR_H

#include "values/compat.h"

/* Adds `repair` to the module on the top. */
void lrepair_open(lua_State *L);

#endif

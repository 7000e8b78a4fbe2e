/* SPDX-License-Identifier: MIT */
/*
 * Changes of one item of a queue.
 */
#ifndef BINDING_CHANGE_H
#define BINDING_CHANGE_H

#include "values/compat.h"

/* Adds the methods to the table on the top, and what starts them. */
void lchange_methods(lua_State *L);
void lchange_starters(lua_State *L);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Workers: methods of a store.
 */
#ifndef BINDING_WORKER_H
#define BINDING_WORKER_H

#include "values/compat.h"

void lworker_methods(lua_State *L);  /* of a store; the table is on the top */
void lworker_starters(lua_State *L); /* those that may wait, by ticket */

#endif

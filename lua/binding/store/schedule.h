/* SPDX-License-Identifier: MIT */
/*
 * Schedules: methods of a store.
 */
#ifndef BINDING_SCHEDULE_H
#define BINDING_SCHEDULE_H

#include "values/compat.h"

void lschedule_methods(lua_State *L);  /* of a store; the table is on the top */
void lschedule_starters(lua_State *L); /* those that may wait, by ticket */

#endif

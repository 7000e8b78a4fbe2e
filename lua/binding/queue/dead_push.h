/* SPDX-License-Identifier: MIT */
/*
 * Failures that happened elsewhere: a method of queues.
 */
#ifndef BINDING_DEAD_PUSH_H
#define BINDING_DEAD_PUSH_H

#include "values/compat.h"

void ldead_push_methods(lua_State *L); /* into the table on the top */
void ldead_push_starters(lua_State *L);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The terminal.
 */
#ifndef BINDING_TERMINAL_H
#define BINDING_TERMINAL_H

#include "values/compat.h"

/* Adds `terminal` to the module on the top. */
void lterminal_open(lua_State *L);

#endif

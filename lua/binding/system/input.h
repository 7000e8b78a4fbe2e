/* SPDX-License-Identifier: MIT */
/*
 * Reading input.
 */
#ifndef BINDING_INPUT_H
#define BINDING_INPUT_H

#include "values/compat.h"

/* Adds `input` to the module on the top. */
void linput_open(lua_State *L);

#endif

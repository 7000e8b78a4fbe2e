/* SPDX-License-Identifier: MIT */
/*
 * Lua values as CBOR: payloads, headers and what replays make of them. Tables
 * are read raw; no metamethod runs.
 */
#ifndef LENCODE_H
#define LENCODE_H

#include <lua.h>

#include "base/cbor.h"

/* Appends the value at `index`. Raises an error that names the path to what
   has no CBOR form, and never shows a value. */
void lencode_value(lua_State *L, int index, packer *p);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Lua values as CBOR: payloads, headers and what replays make of them. Tables
 * are read raw; no metamethod runs.
 */
#ifndef LENCODE_H
#define LENCODE_H

#include <lua.h>
#include <stdbool.h>

#include "cbor/packer.h"

/* Appends the value at `index`. Raises an error that names the path to what
   has no CBOR form, and never shows a value. */
void lencode_value(lua_State *L, int index, packer *p);

/* The same of a value in `depth` tables, if it has `most` bytes at most; false,
   and nothing is appended, if it has more: that takes little longer. */
bool lencode_short(lua_State *L, int index, packer *p, int depth, size_t most);

/* Whether the table at `t` has n keys, all of them in 1..n. */
bool lencode_is_sequence(lua_State *L, int t, size_t n);

#endif

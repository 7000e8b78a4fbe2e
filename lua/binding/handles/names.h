/* SPDX-License-Identifier: MIT */
/*
 * Lists that the core gives one by one to a callback. The callback may
 * not touch Lua, which could throw out of the core, so it packs what it
 * hears; the Lua table is made afterwards.
 */
#ifndef BINDING_NAMES_H
#define BINDING_NAMES_H

#include "cbor/packer.h"
#include "respool.h"
#include "values/compat.h"

/* Pushes a packer that lives as long as the stack remembers it. */
packer *lnames_packer(lua_State *L);

/* Adds a name to the packer `arg`; pushes the list of those that were. */
int lnames_add(void *arg, const char *name);
void lnames_push(lua_State *L, const packer *p);

/* Pushes the list of names, or findings, that `walk` gives; or fails. */
typedef int (*lnames_walk)(respool *s, respool_name_fn each, void *arg);
int lnames_list(lua_State *L, respool *s, lnames_walk walk);

/* The two halves of it: adds a name to a packer; pushes those it holds. */
int lnames_add(void *p, const char *name);
void lnames_push(lua_State *L, const packer *p);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The buffers of a store.
 */
#ifndef BINDING_BUFFER_LIST_H
#define BINDING_BUFFER_LIST_H

#include "values/compat.h"

/* Methods of a store, for the table on the top; those that may wait, for the
   module on the top. */
void lbuffers_methods(lua_State *L);
void lbuffers_starters(lua_State *L);

#endif

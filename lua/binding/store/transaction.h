/* SPDX-License-Identifier: MIT */
/*
 * Transactions over the queues of a store.
 */
#ifndef BINDING_TRANSACTION_H
#define BINDING_TRANSACTION_H

#include "values/compat.h"

/* Methods of a store, for the table on the top. */
void ltx_methods(lua_State *L);

void ltx_open(lua_State *L); /* makes the type */

#endif

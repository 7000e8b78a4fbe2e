/* SPDX-License-Identifier: MIT */
/*
 * Stores.
 */
#ifndef BINDING_STORE_H
#define BINDING_STORE_H

#include "values/compat.h"

/* Makes the type, with the methods of dead.h, replay.h, note.h, schedule.h,
   maintenance.h, buffer_list.h and transaction.h; adds `open` to the module on
   the top. */
void lstore_open(lua_State *L);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Dead letters moved to a queue, as they are or changed.
 */
#ifndef BINDING_MOVE_H
#define BINDING_MOVE_H

#include "values/compat.h"

/* dead_move(store, DLQ, moves, to, keep_attempts, replay): how many moved. */
int ldead_move(lua_State *L);

#endif

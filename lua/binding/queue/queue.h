/* SPDX-License-Identifier: MIT */
/*
 * Queues.
 */
#ifndef BINDING_QUEUE_H
#define BINDING_QUEUE_H

#include "values/compat.h"

/* Makes the type, with the methods of take.h and buffer.h. */
void lqueue_open(lua_State *L);

#endif

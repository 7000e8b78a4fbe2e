/* SPDX-License-Identifier: MIT */
/*
 * Samples of the figures of queues, and what became of them in time.
 */
#ifndef BINDING_TREND_H
#define BINDING_TREND_H

#include "values/compat.h"

void ltrend_methods(lua_State *L); /* into the table on top */
void ltrend_starters(lua_State *L);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Processes and signals.
 */
#ifndef BINDING_PROCESS_H
#define BINDING_PROCESS_H

#include "values/compat.h"

/* Adds `process` to the module on the top. */
void lprocess_open(lua_State *L);

/* How many of the signals that are watched have come, ever. */
int lprocess_signals(void);

#endif

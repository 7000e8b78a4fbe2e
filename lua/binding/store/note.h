/* SPDX-License-Identifier: MIT */
#ifndef BINDING_NOTE_H
#define BINDING_NOTE_H

#include "values/compat.h"

void lnote_methods(lua_State *L);  /* of a store; the table is on the top */
void lnote_starters(lua_State *L); /* those that may wait, by ticket */

#endif

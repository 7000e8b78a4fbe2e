/* SPDX-License-Identifier: MIT */
/*
 * The parts of respool.core, one a noun. What their functions take has been
 * checked by the Lua side: a number where one is due, seconds in range. They
 * check again, so that no call from Lua harms the process.
 */
#ifndef BINDING_STORE_H
#define BINDING_STORE_H

#include "compat.h"

/* Each makes a type and adds functions to the table on the top. */
void lstore_open(lua_State *L); /* open */
void lqueue_open(lua_State *L);
void ltake_open(lua_State *L);  /* cursor */
void lbatch_open(lua_State *L);   /* batch, batch_type */
void lbuffer_open(lua_State *L);
void ltx_open(lua_State *L);
void lprocess_open(lua_State *L); /* process */
void lrepair_open(lua_State *L);  /* repair */
void lfile_open(lua_State *L);    /* file */
void lterminal_open(lua_State *L); /* terminal */
void linput_open(lua_State *L);   /* input */

/* Methods of a queue, and of a store, for the table on the top. */
void ltake_methods(lua_State *L);
void lbuffer_methods(lua_State *L);
void ldead_methods(lua_State *L);
void lreplay_methods(lua_State *L);
void ltx_methods(lua_State *L);
void lmaintenance_methods(lua_State *L);
void lbuffers_methods(lua_State *L);

/* Those of a store that may wait, for the module on the top. */
void ldead_starters(lua_State *L);
void lreplay_starters(lua_State *L);
void lmaintenance_starters(lua_State *L);
void lbuffers_starters(lua_State *L);
int lmaintenance_compact(lua_State *L); /* compact */

#endif

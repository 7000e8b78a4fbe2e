/* SPDX-License-Identifier: MIT */
/*
 * Batches of taken items.
 */
#ifndef BINDING_BATCH_H
#define BINDING_BATCH_H

#include "handles/handle.h"
#include "handles/ticket.h"

/* outcome, delay, error, trace, group, reason, DLQ, memo from `index` on. */
void lbatch_outcome(lua_State *L, int index, respool_outcome *o);

/* The number at `index` of an item of the batch, made one from 0. */
size_t lbatch_number(lua_State *L, int index, const respool_batch *l);

/* Pushes a shut batch with the table at `beside`. */
handle *lbatch_new(lua_State *L, int beside);

/* The end of a ticket that takes: the batch beside it, opened. */
int lbatch_taken(lua_State *L, int rc, const respool_result *r, lticket *t);

/* Makes the type; adds batch, batch_type to the module on the top. */
void lbatch_open(lua_State *L);

#endif

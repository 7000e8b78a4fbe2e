/* SPDX-License-Identifier: MIT */
/*
 * What stores, queues and lots share: options of queues, pushes and takes
 * as they lie in a table or on the stack, and items as records.
 */
#ifndef BINDING_QUEUE_H
#define BINDING_QUEUE_H

#include "compat.h"
#include "handle.h"
#include "record.h"
#include "respool.h"

/* The fields of an item, for tables and for single questions. */
extern const record_field LITEM_FIELDS[];

/* Options of a queue from the table at `index`; a retry policy is read into
   `backoff`. What they point to lives as long as the table. */
void lqueue_options(lua_State *L, int index, respool_queue_options *o,
                    respool_backoff *backoff);

/* lane, delay, at, ttl from `index` on; nil is the default. */
void lqueue_push_options(lua_State *L, int index, respool_push_options *o);

/* items, bytes, wait, lease from `index` on; nil is the default. */
void lqueue_take_options(lua_State *L, int index, respool_take_options *o);

/* The string at `index`, borrowed; nil is no bytes. */
respool_bytes lqueue_bytes(lua_State *L, int index);

/* Pushes a shut lot with the table at `beside`. */
handle *llot_new(lua_State *L, int beside);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * What stores, queues and batches share: options of queues, pushes and takes
 * as they lie in a table or on the stack, and items as records.
 */
#ifndef BINDING_QUEUE_H
#define BINDING_QUEUE_H

#include "compat.h"
#include "handle.h"
#include "record.h"
#include "respool.h"
#include "ticket.h"

/* The fields of an item, for tables and for single questions. */
extern const record_field LITEM_FIELDS[];

/* Options of a queue from the table at `index`; a retry policy is read into
 `backoff`, shares of priorities into `weights`. What they point to lives as
   long as the table. */
void lqueue_options(lua_State *L, int index, respool_queue_options *o,
                    respool_backoff *backoff, respool_weights *weights);

/* priority, delay, at, ttl, version, on_conflict, dedup, wait from `index` on;
   nil is the default. */
void lqueue_push_options(lua_State *L, int index, respool_push_options *o);

/* payload, codec, headers, key from index 2 on. Where the codec is `true` the
   payload is any value, encoded as CBOR, which stands until the next call that
   makes a Lua object; else the payload is a string, the codec its name or
   nil. */
respool_payload lqueue_payload(lua_State *L);

/* items, bytes, wait, lease from `index` on; nil is the default. */
void lqueue_take_options(lua_State *L, int index, respool_take_options *o);

/* The string at `index`, borrowed; nil is no bytes. */
respool_bytes lqueue_bytes(lua_State *L, int index);

/* outcome, delay, error, trace, group, reason, DLQ, memo from `index` on. */
void lbatch_outcome(lua_State *L, int index, respool_outcome *o);

/* The number at `index` of an item of the batch, made one from 0. */
size_t lbatch_number(lua_State *L, int index, const respool_batch *l);

/* Pushes a shut batch with the table at `beside`. */
handle *lbatch_new(lua_State *L, int beside);

/* The end of a ticket that takes: the batch beside it, opened. */
int lbatch_taken(lua_State *L, int rc, const respool_result *r, lticket *t);

#endif

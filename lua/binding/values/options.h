/* SPDX-License-Identifier: MIT */
/*
 * Options of queues, pushes and takes, and payloads, as they lie in a table or
 * on the stack; the fields of an item.
 */
#ifndef BINDING_OPTIONS_H
#define BINDING_OPTIONS_H

#include "compat.h"
#include "record.h"
#include "respool.h"

/* The fields of a respool_item_about, for tables and for single questions. */
extern const record_field LITEM_FIELDS[];

/* The policy of a queue, without DLQ, backoff and weights. */
extern const record_field LPOLICY_FIELDS[];

/* Options of a queue from the table at `index`; a retry policy is read into
 `backoff`, shares of priorities into `weights`. What they point to lives as
   long as the table. */
void loptions_queue(lua_State *L, int index, respool_queue_options *o,
                    respool_backoff *backoff, respool_weights *weights);

/* A push whose payload is not read yet. */
typedef struct push_form {
  respool_payload item; /* headers and key */
  respool_push_options options;
} push_form;

/* Options of a push from the table at `index`, to which headers and key
   belong; nil for none. */
push_form loptions_push(lua_State *L, int index);

/* A payload at index 2 and its codec at index 3. Where the codec is `true` the
   payload is any value, encoded as CBOR, which stands until the next call that
   makes a Lua object; else the payload is a string, the codec its name or
   nil. */
void loptions_payload(lua_State *L, respool_payload *item);

/* The same for each of the list at index 2, with the fields of `around`. */
void loptions_payloads(lua_State *L, respool_payload *items, size_t n,
                       respool_payload around);

/* The table of options at `index` may have a list, `partitions`, with one for
   each item, or false; the list keeps them. */
void loptions_partitions(lua_State *L, int index, respool_payload *items,
                         size_t n);

/* items, bytes, wait, lease, worker from `index` on; nil is the default. */
void loptions_take(lua_State *L, int index, respool_take_options *o);

/* The string at `index`, borrowed; nil is no bytes. */
respool_bytes loptions_bytes(lua_State *L, int index);

#endif

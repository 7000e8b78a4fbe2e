/* SPDX-License-Identifier: MIT */
/*
 * Options of queues, pushes and takes, and payloads, as they lie on the stack;
 * the fields of an item.
 */
#include "options.h"

#include "backoff.h"
#include "cbor.h"
#include "encode.h"


/* Queues. */

const record_field LPOLICY_FIELDS[] = {
  RECORD(respool_queue_options, lease, SPAN),
  RECORD(respool_queue_options, max_lease, SPAN),
  RECORD(respool_queue_options, max_attempts, LIMIT),
  RECORD(respool_queue_options, max_crashes, LIMIT),
  RECORD(respool_queue_options, ttl, SPAN),
  RECORD(respool_queue_options, cooldown, SPAN),
  RECORD(respool_queue_options, on_exhausted, LIMIT),
  RECORD(respool_queue_options, on_expire, LIMIT),
  RECORD(respool_queue_options, ordered, LIMIT),
  RECORD(respool_queue_options, max_items, LIMIT),
  RECORD(respool_queue_options, max_queue_bytes, LIMIT),
  RECORD(respool_queue_options, overflow, LIMIT),
  RECORD(respool_queue_options, keep_done, SPAN),
  RECORD(respool_queue_options, keep_done_bytes, LIMIT),
  RECORD(respool_queue_options, keep_dead, SPAN),
  RECORD(respool_queue_options, rate_items, LIMIT),
  RECORD(respool_queue_options, rate_per, SPAN),
  RECORD(respool_queue_options, rate_burst, LIMIT),
  RECORD(respool_queue_options, breaker_failures, LIMIT),
  RECORD(respool_queue_options, breaker_within, SPAN),
  RECORD(respool_queue_options, breaker_cooldown, SPAN),
  RECORD(respool_queue_options, breaker_probes, LIMIT),
  RECORD(respool_queue_options, keep_dead_items, LIMIT),
  RECORD(respool_queue_options, keep_dead_bytes, LIMIT),
  RECORD(respool_queue_options, partition_concurrency, LIMIT),
  RECORD(respool_queue_options, partition_ordered, LIMIT),
  RECORD(respool_queue_options, partition_batch, LIMIT),
  RECORD(respool_queue_options, partition_rate_items, LIMIT),
  RECORD(respool_queue_options, partition_rate_per, SPAN),
  RECORD(respool_queue_options, partition_rate_burst, LIMIT),
  RECORD(respool_queue_options, partition_breaker_failures, LIMIT),
  RECORD(respool_queue_options, partition_breaker_within, SPAN),
  RECORD(respool_queue_options, partition_breaker_cooldown, SPAN),
  RECORD(respool_queue_options, partition_breaker_probes, LIMIT),
  RECORD_END
};

static const record_field DLQ[] = {
  RECORD(respool_queue_options, dlq, TEXT),
  RECORD_END
};

static int number_at(lua_State *L, int index, int i) {
  lua_rawgeti(L, index, i);
  int n = (int)luaL_checkinteger(L, -1);
  lua_pop(L, 1);
  return n;
}

/* The list at `index`: priority, weight, priority, weight ... */
static void read_weights(lua_State *L, int index, respool_weights *w) {
  luaL_checktype(L, index, LUA_TTABLE);
  w->n = lua_rawlen(L, index) / 2;
  luaL_argcheck(L, w->n <= RESPOOL_WEIGHTS_MAX, 3, "too many weights");
  for (int i = 0; i < (int)w->n; i++) {
    w->of[i].priority = number_at(L, index, 2 * i + 1);
    w->of[i].weight = (unsigned)number_at(L, index, 2 * i + 2);
  }
}

void loptions_queue(lua_State *L, int index, respool_queue_options *o,
                    respool_backoff *backoff, respool_weights *weights) {
  lrecord_read(L, index, LPOLICY_FIELDS, o);
  lrecord_read(L, index, DLQ, o);
  lua_getfield(L, index, "backoff");
  if (!lua_isnil(L, -1)) {
    lbackoff_get(L, lua_gettop(L), backoff);
    o->backoff = backoff;
  }
  lua_getfield(L, index, "weights");
  if (!lua_isnil(L, -1)) {
    read_weights(L, lua_gettop(L), weights);
    o->weights = weights;
  }
  lua_pop(L, 2);
}


/* Pushes. */

#define OPTION(field, kind) \
  { #field, offsetof(push_form, options.field), RECORD_##kind }
#define AROUND(field) \
  { #field, offsetof(push_form, item.field), RECORD_BYTES }

static const record_field PUSH[] = {
  OPTION(priority, INT),
  OPTION(delay, SPAN),
  OPTION(at, TIME),
  OPTION(ttl, SPAN),
  OPTION(version, COUNT),
  OPTION(on_conflict, INT),
  OPTION(dedup, SPAN),
  AROUND(headers),
  AROUND(key),
  AROUND(partition),
  RECORD_END
};

push_form loptions_push(lua_State *L, int index) {
  push_form p = { .options = RESPOOL_PUSH_OPTIONS_INIT };
  if (!lua_isnoneornil(L, index))
    lrecord_read(L, index, PUSH, &p);
  return p;
}

respool_bytes loptions_bytes(lua_State *L, int index) {
  respool_bytes b = { NULL, 0 };
  if (!lua_isnoneornil(L, index)) {
    luaL_checktype(L, index, LUA_TSTRING); /* no number: its text is lost */
    b.data = lua_tolstring(L, index, &b.size);
  }
  return b;
}

/* The payload at `index`: a string as it is, or any value as CBOR, packed
   behind the others, where locate() will find it. */
static respool_bytes add_body(lua_State *L, int index, packer *p) {
  if (!p)
    return loptions_bytes(L, index);
  size_t before = p->len;
  lencode_value(L, index, p);
  return (respool_bytes){ NULL, p->len - before };
}

/* Packed bodies get their addresses once the packer has stopped growing. */
static void locate(respool_payload *items, size_t n, const packer *p) {
  const uint8_t *at = p ? p->data : NULL;
  for (size_t i = 0; p && i < n; i++) {
    items[i].body.data = at;
    at += items[i].body.size;
  }
}

/* Where payloads are encoded here, by the codec at index 3. */
static packer *encoder(lua_State *L) {
  return lua_isboolean(L, 3) && lua_toboolean(L, 3) ? lcbor_scratch(L) : NULL;
}

void loptions_payload(lua_State *L, respool_payload *item) {
  packer *p = encoder(L);
  if (!p)
    item->codec = loptions_bytes(L, 3);
  item->body = add_body(L, 2, p);
  locate(item, 1, p);
}

void loptions_partitions(lua_State *L, int index, respool_payload *items,
                         size_t n) {
  if (!lua_istable(L, index))
    return;
  lua_getfield(L, index, "partitions");
  for (size_t i = 0; i < n && lua_istable(L, -1); i++) {
    lua_rawgeti(L, -1, (int)i + 1);
    if (lua_type(L, -1) == LUA_TSTRING)
      items[i].partition.data =
          lua_tolstring(L, -1, &items[i].partition.size);
    lua_pop(L, 1); /* the list keeps it */
  }
  lua_pop(L, 1);
}

void loptions_payloads(lua_State *L, respool_payload *items, size_t n,
                       respool_payload around) {
  packer *p = encoder(L);
  if (!p)
    around.codec = loptions_bytes(L, 3);
  for (size_t i = 0; i < n; i++) {
    items[i] = around;
    lua_rawgeti(L, 2, (int)i + 1);
    items[i].body = add_body(L, lua_gettop(L), p);
    lua_pop(L, 1);
  }
  locate(items, n, p);
  loptions_partitions(L, 4, items, n);
}


/* Takes. */

void loptions_take(lua_State *L, int index, respool_take_options *o) {
  o->items = lua_isnoneornil(L, index) ? 1 : lrecord_count(L, index);
  o->bytes = lua_isnoneornil(L, index + 1) ? 0 : lrecord_count(L, index + 1);
  o->wait = lrecord_span_or_zero(L, index + 2);
  o->lease = lrecord_span(L, index + 3);
  o->worker = lua_isnoneornil(L, index + 4) ? 0 : lrecord_count(L, index + 4);
}


/* Items. */

const record_field LITEM_FIELDS[] = {
  { "priority", offsetof(respool_item_about, priority), RECORD_INT },
  RECORD(respool_item_about, attempts, COUNT),
  RECORD(respool_item_about, deliveries, COUNT),
  RECORD(respool_item_about, crashes, COUNT),
  RECORD(respool_item_about, replays, COUNT),
  RECORD(respool_item_about, version, COUNT),
  RECORD(respool_item_about, key, BYTES),
  RECORD(respool_item_about, partition, BYTES),
  RECORD(respool_item_about, pushed_at, TIME),
  RECORD(respool_item_about, expires_at, TIME),
  RECORD(respool_item_about, visible_at, TIME),
  RECORD(respool_item_about, error, BYTES),
  RECORD(respool_item_about, headers, BYTES),
  RECORD(respool_item_about, original, BYTES),
  RECORD(respool_item_about, original_codec, BYTES),
  RECORD(respool_item_about, memo, BYTES),
  RECORD(respool_item_about, state, INT),
  RECORD(respool_item_about, worker, COUNT),
  RECORD(respool_item_about, progress, TIME), /* thousandths: as a time's */
  RECORD(respool_item_about, progress_at, TIME),
  RECORD(respool_item_about, progress_text, BYTES),
  RECORD(respool_item_about, codec, BYTES),
  { "origin_queue", offsetof(respool_item_about, origin.queue),
    RECORD_BYTES },
  { "origin_id", offsetof(respool_item_about, origin.id), RECORD_COUNT },
  { "origin_pushed_at", offsetof(respool_item_about, origin.pushed_at),
    RECORD_TIME },
  RECORD_END
};

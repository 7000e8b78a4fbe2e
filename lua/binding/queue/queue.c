/* SPDX-License-Identifier: MIT */
/*
 * Queues: policy, counters, pushing, removing.
 */
#include "queue.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"
#include "change.h"
#include "dead_push.h"
#include "handles/ticket.h"
#include "take.h"
#include "values/options.h"
#include "values/result.h"
#include "values/stats.h"

static respool_queue *queue(lua_State *L) {
  return lhandle_object(L, 1, LQUEUE);
}


/* Policy. */

static const record_field BACKOFF[] = {
  RECORD(respool_backoff, kind, INT),
  RECORD(respool_backoff, jitter, INT),
  { "initial", offsetof(respool_backoff, initial), RECORD_LIMIT },
  { "step", offsetof(respool_backoff, step), RECORD_LIMIT },
  { "max", offsetof(respool_backoff, max), RECORD_LIMIT },
  RECORD_END
};

static void push_delays(lua_State *L, const respool_backoff *b) {
  lua_newtable(L);
  for (size_t i = 0; i < b->count; i++) {
    lua_pushinteger(L, (lua_Integer)b->list[i]);
    lua_rawseti(L, -2, (int)i + 1);
  }
}

/* A table as respool/backoff.lua makes them. */
static void push_backoff(lua_State *L, const respool_backoff *b) {
  lrecord_push(L, BACKOFF, b);
  lua_pushnumber(L, b->ratio);
  lua_setfield(L, -2, "ratio");
  lua_pushnumber(L, b->factor);
  lua_setfield(L, -2, "factor");
  push_delays(L, b);
  lua_setfield(L, -2, "list");
}

/* A table of weights by priority. */
static void push_weights(lua_State *L, const respool_weights *w) {
  lua_newtable(L);
  for (size_t i = 0; i < w->n; i++) {
    lua_pushinteger(L, (lua_Integer)w->of[i].weight);
    lua_rawseti(L, -2, w->of[i].priority);
  }
}

static int queue_config(lua_State *L) {
  respool_queue_options o = RESPOOL_QUEUE_OPTIONS_INIT;
  respool_backoff backoff;
  respool_weights weights;
  char dlq[RESPOOL_NAME_MAX + 1];
  int rc = respool_queue_config(queue(L), &o, &backoff, dlq,
                                &weights);
  if (rc)
    return lfail(L, rc);
  lrecord_push(L, LPOLICY_FIELDS, &o);
  lua_pushstring(L, dlq);
  lua_setfield(L, -2, "dlq");
  push_backoff(L, &backoff);
  lua_setfield(L, -2, "backoff");
  push_weights(L, &weights);
  lua_setfield(L, -2, "weights");
  return 1;
}

typedef struct pause_call {
  lcall call;
  int paused;
} pause_call;

static int run_pause(lcall *c) {
  return respool_queue_pause(c->queue, ((pause_call *)c)->paused);
}

static int queue_pause(lua_State *L) {
  pause_call *p = lcall_of_queue(L, sizeof *p);
  p->paused = lua_toboolean(L, 2);
  return lcall_do(L, &p->call, run_pause, lcall_true);
}

typedef struct hold_call {
  lcall call;
  int64_t ms;
  char reason[RESPOOL_REASON_MAX + 5]; /* so that the core sees where to cut */
  char partition[RESPOOL_NAME_MAX + 1]; /* longer: refused by the core */
  size_t n;
} hold_call;

static int run_hold(lcall *c) {
  const hold_call *h = (hold_call *)c;
  respool_bytes name = { h->partition, h->n };
  if (h->n)
    return respool_partition_hold(c->queue, name, h->ms,
                                  respool_text(h->reason));
  return respool_queue_hold(c->queue, h->ms, respool_text(h->reason));
}

/* hold(queue, seconds, reason, partition): 0 ends a hold. */
static int queue_hold(lua_State *L) {
  hold_call *h = lcall_of_queue(L, sizeof *h);
  h->ms = lrecord_span_or_zero(L, 2);
  snprintf(h->reason, sizeof h->reason, "%s", luaL_optstring(L, 3, ""));
  const char *name = luaL_optlstring(L, 4, "", &h->n);
  if (h->n > sizeof h->partition)
    h->n = sizeof h->partition;
  memcpy(h->partition, name, h->n);
  return lcall_do(L, &h->call, run_hold, lcall_true);
}

static const record_field PARTITION[] = {
  { "key", offsetof(respool_partition, name), RECORD_BYTES },
  RECORD(respool_partition, ready, COUNT),
  RECORD(respool_partition, leased, COUNT),
  { "scheduled", offsetof(respool_partition, waiting), RECORD_COUNT },
  RECORD(respool_partition, held_until, TIME),
  RECORD(respool_partition, held_for, BYTES),
  RECORD(respool_partition, allowed, LIMIT),
  RECORD(respool_partition, allowed_at, TIME),
  RECORD(respool_partition, breaker, INT),
  RECORD(respool_partition, breaker_until, TIME),
  RECORD(respool_partition, outages, COUNT),
  RECORD(respool_partition, opened, COUNT),
  RECORD_END
};

typedef struct partitions_call {
  lcall call;
  respool_partitions_options options;
  char after[RESPOOL_NAME_MAX];
  respool_partition *list;
  char *texts; /* of the names and reasons, one after the other */
  size_t n, texts_size;
} partitions_call;

static int keep_text(partitions_call *p, respool_bytes *b) {
  char *more = b->size ? realloc(p->texts, p->texts_size + b->size) : NULL;
  if (b->size && !more)
    return RESPOOL_NOMEM;
  if (b->size) {
    p->texts = more;
    memcpy(more + p->texts_size, b->data, b->size);
    p->texts_size += b->size;
  }
  return 0;
}

static int keep_partition(void *arg, const respool_partition *found) {
  partitions_call *p = arg;
  respool_partition *x = &p->list[p->n++];
  *x = *found;
  int rc = keep_text(p, &x->name);
  return rc ? rc : keep_text(p, &x->held_for);
}

static int run_partitions(lcall *c) {
  partitions_call *p = (partitions_call *)c;
  p->options.after.data = p->after;
  p->list = calloc(p->options.limit, sizeof *p->list);
  if (!p->list)
    return RESPOOL_NOMEM;
  return respool_partitions(c->queue, &p->options, keep_partition, p);
}

static void free_partitions(lcall *c) {
  partitions_call *p = (partitions_call *)c;
  free(p->list);
  free(p->texts);
}

static int push_partitions(lua_State *L, lcall *c) {
  const partitions_call *p = (const partitions_call *)c;
  const char *at = p->texts;
  lua_createtable(L, (int)p->n, 0);
  for (size_t i = 0; i < p->n; i++) {
    respool_partition x = p->list[i];
    x.name.data = at;
    x.held_for.data = at + x.name.size;
    at += x.name.size + x.held_for.size;
    lrecord_push(L, PARTITION, &x);
    lua_rawseti(L, -2, (int)i + 1);
  }
  return 1;
}

/* partitions(queue, by_size, limit, after): a list of tables. */
static int queue_partitions(lua_State *L) {
  partitions_call *p = lcall_of_queue(L, sizeof *p);
  p->options = (respool_partitions_options)RESPOOL_PARTITIONS_OPTIONS_INIT;
  p->options.order = lua_toboolean(L, 2) ? RESPOOL_PARTITIONS_BY_SIZE
                                         : RESPOOL_PARTITIONS_BY_NAME;
  p->options.limit = lrecord_count(L, 3);
  const char *after = luaL_optlstring(L, 4, "", &p->options.after.size);
  if (p->options.after.size > sizeof p->after)
    p->options.after.size = sizeof p->after;
  memcpy(p->after, after, p->options.after.size);
  p->call.free = free_partitions;
  return lcall_do(L, &p->call, run_partitions, push_partitions);
}

static const record_field FLOW[] = {
  RECORD(respool_flow, held_until, TIME),
  RECORD(respool_flow, held_for, NAME),
  RECORD(respool_flow, allowed, LIMIT),
  RECORD(respool_flow, allowed_at, TIME),
  RECORD(respool_flow, breaker, INT),
  RECORD(respool_flow, breaker_until, TIME),
  RECORD(respool_flow, in_row, COUNT),
  RECORD(respool_flow, outages, COUNT),
  RECORD(respool_flow, opened, COUNT),
  RECORD_END
};

static const record_field OPENING[] = {
  RECORD(respool_opening, opened_at, TIME),
  RECORD(respool_opening, closed_at, TIME),
  RECORD(respool_opening, probes, COUNT),
  RECORD(respool_opening, error, NAME),
  RECORD_END
};

/* flow(queue): whether it is held, its rate, its breaker and the last times
   when that opened. */
static int queue_flow(lua_State *L) {
  respool_flow f = RESPOOL_FLOW_INIT;
  int rc = respool_queue_flow(queue(L), &f);
  if (rc)
    return lfail(L, rc);
  lrecord_push(L, FLOW, &f);
  lua_createtable(L, (int)f.openings, 0);
  for (size_t i = 0; i < f.openings; i++) {
    lrecord_push(L, OPENING, &f.opening[i]);
    lua_rawseti(L, -2, (int)i + 1);
  }
  lua_setfield(L, -2, "openings");
  return 1;
}

static const record_field STATS[] = {
  RECORD(respool_queue_stats, ready, COUNT),
  RECORD(respool_queue_stats, leased, COUNT),
  RECORD(respool_queue_stats, scheduled, COUNT),
  RECORD(respool_queue_stats, retrying, COUNT),
  RECORD(respool_queue_stats, dead, COUNT),
  RECORD(respool_queue_stats, bytes, COUNT),
  RECORD(respool_queue_stats, next_due, TIME),
  RECORD(respool_queue_stats, oldest, TIME),
  RECORD(respool_queue_stats, paused, FLAG),
  RECORD(respool_queue_stats, pushed, COUNT),
  RECORD(respool_queue_stats, done, COUNT),
  RECORD(respool_queue_stats, died, COUNT),
  RECORD(respool_queue_stats, expired, COUNT),
  RECORD(respool_queue_stats, removed, COUNT),
  RECORD(respool_queue_stats, delivered, COUNT),
  RECORD(respool_queue_stats, retried, COUNT),
  RECORD(respool_queue_stats, released, COUNT),
  RECORD(respool_queue_stats, snoozed, COUNT),
  RECORD(respool_queue_stats, crashed, COUNT),
  RECORD(respool_queue_stats, lease_lost, COUNT),
  RECORD(respool_queue_stats, damaged, COUNT),
  RECORD(respool_queue_stats, clock_steps, COUNT),
  RECORD(respool_queue_stats, dropped, COUNT),
  RECORD(respool_queue_stats, kept, COUNT),
  RECORD(respool_queue_stats, kept_bytes, COUNT),
  RECORD(respool_queue_stats, pushed_bytes, COUNT),
  RECORD(respool_queue_stats, delivered_bytes, COUNT),
  RECORD(respool_queue_stats, dead_bytes, COUNT),
  RECORD(respool_queue_stats, dead_dropped, COUNT),
  RECORD(respool_queue_stats, partitions, COUNT),
  RECORD_END
};

/* stat(queue, brief): brief is without the histograms. */
static int queue_stat(lua_State *L) {
  respool_queue_stats stats = RESPOOL_QUEUE_STATS_INIT;
  int rc = respool_queue_stat(queue(L), &stats);
  if (rc)
    return lfail(L, rc);
  lrecord_push(L, STATS, &stats);
  lstats_queue(L, &stats);
  if (!lua_toboolean(L, 2))
    lstats_times(L, &stats);
  return 1;
}


/* Push. */

/* The first id; or nil, message, code, and true where no wait would help. */
static int push_first(lua_State *L, int rc, const respool_result *r,
                      lticket *t) {
  (void)t;
  if (rc) {
    int n = lfail(L, rc);
    lua_pushboolean(L, r->never_fits);
    return n + 1;
  }
  lrecord_push_count(L, r->first);
  if (!r->duplicate)
    return 1;
  lua_pushliteral(L, "exists");
  return 2;
}

static int start_push(lua_State *L, const respool_payload *items, size_t n,
                      const respool_push_options *o) {
  handle *q = lhandle_check(L, 1, LQUEUE);
  lticket *t = lticket_new(L, push_first);
  int rc = respool_push_start(q->object, items, n, o, &t->made);
  return lticket_return(L, t, rc, q, 0);
}

/* The options at index 4, and how long to wait for room. */
static push_form read_push(lua_State *L) {
  push_form p = loptions_push(L, 4);
  p.options.wait = lrecord_span_or_zero(L, 5);
  return p;
}

static int push_items(lua_State *L, respool_queue *q,
                      const respool_payload *items, size_t n,
                      const respool_push_options *o) {
  respool_result r = RESPOOL_RESULT_INIT;
  if (LSTARTS(L))
    return start_push(L, items, n, o);
  int rc = respool_push(q, items, n, o, &r);
  return push_first(L, rc, &r, NULL);
}

/* push(queue, payload, codec, options, wait): the id, and "exists" when the
   item that holds the key has it. */
static int queue_push(lua_State *L) {
  respool_queue *q = queue(L);
  push_form p = read_push(L);
  loptions_payload(L, &p.item);
  return push_items(L, q, &p.item, 1, &p.options);
}

/* push_many(queue, list, ...): the first id. As push, for each of a list. */
static int queue_push_many(lua_State *L) {
  respool_queue *q = queue(L);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 5);
  size_t n = lua_rawlen(L, 2);
  respool_payload *items = lua_newuserdata(L, n * sizeof *items);
  push_form p = read_push(L);
  loptions_payloads(L, items, n, p.item);
  return push_items(L, q, items, n, &p.options);
}

/* watch(queue): from now on its pushes note the dead letters that they make. */
static int queue_watch(lua_State *L) {
  return lresult(L, respool_queue_watch(queue(L), 1));
}

/* notice(queue): DLQ and number of the next such dead letter, or nothing. */
static int queue_notice(lua_State *L) {
  respool_notice n = RESPOOL_NOTICE_INIT;
  int rc = respool_queue_notice(queue(L), &n);
  return rc ? lfail(L, rc) : lrecord_push_notice(L, &n);
}


/* Removing. */

typedef struct remove_call {
  lcall call;
  uint64_t id, removed;
  lname key; /* instead of the id; or empty */
  uint64_t *ids;
  size_t n;
} remove_call;

static int run_remove(lcall *c) {
  const remove_call *r = (const remove_call *)c;
  return r->n ? respool_remove_key(c->queue, (respool_bytes){ r->key, r->n })
              : respool_remove(c->queue, r->id);
}

/* remove(queue, id), or remove(queue, key): the key is a string. */
static int queue_remove(lua_State *L) {
  remove_call *r = lcall_of_queue(L, sizeof *r);
  if (lua_type(L, 2) == LUA_TSTRING) {
    const char *key = lua_tolstring(L, 2, &r->n);
    memcpy(r->key, key, r->n < sizeof r->key ? r->n : sizeof r->key);
  } else
    r->id = lrecord_count(L, 2);
  return lcall_do(L, &r->call, run_remove, lcall_true);
}

static int run_purge(lcall *c) {
  return respool_purge(c->queue, &((remove_call *)c)->removed);
}

static int push_removed(lua_State *L, lcall *c) {
  lrecord_push_count(L, ((remove_call *)c)->removed);
  return 1;
}

static void free_ids(lcall *c) {
  free(((remove_call *)c)->ids);
}

static int run_remove_many(lcall *c) {
  remove_call *r = (remove_call *)c;
  return respool_remove_many(c->queue, r->ids, r->n, &r->removed);
}

/* The numbers of the list at index 2. */
static void read_ids(lua_State *L, remove_call *r) {
  r->n = lua_rawlen(L, 2);
  r->ids = calloc(r->n + 1, sizeof *r->ids);
  if (!r->ids)
    luaL_error(L, "not enough memory");
  for (size_t i = 0; i < r->n; i++) {
    lua_rawgeti(L, 2, (int)i + 1);
    r->ids[i] = lrecord_count(L, -1);
    lua_pop(L, 1);
  }
}

/* remove_many(queue, ids): how many were there and not leased. */
static int queue_remove_many(lua_State *L) {
  luaL_checktype(L, 2, LUA_TTABLE);
  remove_call *r = lcall_of_queue(L, sizeof *r);
  r->call.free = free_ids;
  read_ids(L, r);
  return lcall_do(L, &r->call, run_remove_many, push_removed);
}

static int queue_purge(lua_State *L) {
  remove_call *r = lcall_of_queue(L, sizeof *r);
  return lcall_do(L, &r->call, run_purge, push_removed);
}

static const luaL_Reg METHODS[] = {
  { "config", queue_config },
  { "pause", queue_pause },
  { "hold", queue_hold },
  { "partitions", queue_partitions },
  { "flow", queue_flow },
  { "stat", queue_stat },
  { "push", queue_push },
  { "push_many", queue_push_many },
  { "watch", queue_watch },
  { "notice", queue_notice },
  { "remove", queue_remove },
  { "remove_many", queue_remove_many },
  { "purge", queue_purge },
  { NULL, NULL }
};

static const luaL_Reg WAITING[] = {
  { "pause", queue_pause },
  { "hold", queue_hold },
  { "partitions", queue_partitions },
  { "push", queue_push },
  { "push_many", queue_push_many },
  { "remove", queue_remove },
  { "remove_many", queue_remove_many },
  { "purge", queue_purge },
  { NULL, NULL }
};

void lqueue_open(lua_State *L) {
  lhandle_type(L, LQUEUE, METHODS);
  lua_getfield(L, -1, "__index");
  ltake_methods(L);
  lbuffer_methods(L);
  ldead_push_methods(L);
  lchange_methods(L);
  lua_pop(L, 2);
  lticket_starters(L, "queue", WAITING);
  ldead_push_starters(L);
  lchange_starters(L);
}

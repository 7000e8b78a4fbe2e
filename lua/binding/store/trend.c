/* SPDX-License-Identifier: MIT */
#include "trend.h"

#include <string.h>

#include "cbor/packer.h"
#include "handles/ticket.h"
#include "values/cbor.h"
#include "values/record.h"
#include "values/result.h"

typedef struct trend_call {
  lcall call;
  respool_trend_options options;
  lname queue;
  int64_t next_in;
  uint64_t n;
  packer list;
} trend_call;

static void free_trend(lcall *c) {
  packer_free(&((trend_call *)c)->list);
}

static trend_call *new_call(lua_State *L) {
  trend_call *t = lcall_of_store(L, sizeof *t);
  packer_init(&t->list);
  t->call.free = free_trend;
  t->options = (respool_trend_options)RESPOOL_TREND_OPTIONS_INIT;
  return t;
}

static int run_sample(lcall *c) {
  return respool_sample(c->store, &((trend_call *)c)->next_in);
}

static int push_next(lua_State *L, lcall *c) {
  lrecord_push_span(L, ((trend_call *)c)->next_in);
  return 1;
}

/* sample(store): seconds until another sample is due. */
static int take_sample(lua_State *L) {
  return lcall_do(L, &new_call(L)->call, run_sample, push_next);
}

/* The core's callback may not touch Lua, so it packs CBOR. */
static int add_trend(void *arg, const respool_trend *t) {
  trend_call *c = arg;
  packer *p = &c->list;
  const uint64_t counts[] = {
    t->pushed, t->delivered, t->done, t->retried, t->crashed, t->died,
    t->expired, t->removed, t->ready, t->leased, t->scheduled, t->retrying,
    t->dead, t->bytes,
  };
  const respool_histogram *times[] = { &t->wait, &t->handle };
  c->n++;
  pack_array(p, 4 + sizeof counts / sizeof *counts + 4);
  pack_string(p, t->queue, strlen(t->queue));
  pack_int(p, t->since);
  pack_int(p, t->at);
  pack_int(p, t->oldest);
  for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
    pack_uint(p, counts[i]);
  for (size_t i = 0; i < 2; i++) {
    pack_int(p, respool_quantile(times[i], 0.5));
    pack_int(p, respool_quantile(times[i], 0.95));
  }
  return p->rc;
}

static int run_trends(lcall *c) {
  trend_call *t = (trend_call *)c;
  return respool_trends(c->store, &t->options, add_trend, c);
}

static int push_trends(lua_State *L, lcall *c) {
  const trend_call *t = (const trend_call *)c;
  return lcbor_push_list(L, t->n, &t->list);
}

/* trends(store, queue or nil, span, since, before): a list in CBOR, each an
   array of the queue, since, at and oldest in milliseconds, counts, and four
   durations in microseconds, -1 for none. */
static int trends(lua_State *L) {
  int64_t span = lrecord_span(L, 3);
  int64_t since = lrecord_span_or_zero(L, 4);
  int64_t before = lrecord_span_or_zero(L, 5);
  trend_call *t = new_call(L);
  if (!lua_isnoneornil(L, 2)) {
    lcall_name(L, 2, t->queue);
    t->options.queue = t->queue;
  }
  t->options.span = span;
  t->options.since = since;
  t->options.before = before;
  return lcall_do(L, &t->call, run_trends, push_trends);
}

static const luaL_Reg METHODS[] = {
  { "sample", take_sample },
  { "trends", trends },
  { NULL, NULL }
};

void ltrend_methods(lua_State *L) {
  compat_register(L, METHODS);
}

void ltrend_starters(lua_State *L) {
  lticket_starters(L, "store", METHODS);
}

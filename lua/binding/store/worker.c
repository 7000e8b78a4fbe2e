/* SPDX-License-Identifier: MIT */
/*
 * Workers: starting, looking, asking them to stop, ending.
 */
#include "worker.h"

#include <string.h>

#include "cbor/packer.h"
#include "handles/ticket.h"
#include "values/cbor.h"
#include "values/options.h"
#include "values/result.h"

/* Arguments and results. */
typedef struct worker_call {
  lcall call;
  respool_worker worker;
  lname name, queue, host, process;
  uint64_t number, leases, n;
  bool ends_leases;
  int stopping;
  packer list;
} worker_call;

static void free_worker(lcall *c) {
  packer_free(&((worker_call *)c)->list);
}

static worker_call *new_call(lua_State *L) {
  worker_call *w = lcall_of_store(L, sizeof *w);
  packer_init(&w->list);
  w->call.free = free_worker;
  w->worker = (respool_worker)RESPOOL_WORKER_INIT;
  return w;
}

/* A call whose first argument is a worker's number. */
static worker_call *new_numbered(lua_State *L) {
  uint64_t number = lrecord_count(L, 2);
  worker_call *w = new_call(L);
  w->number = number;
  return w;
}

static int run_start(lcall *c) {
  worker_call *w = (worker_call *)c;
  return respool_worker_start(c->store, &w->worker, &w->number);
}

static int push_number(lua_State *L, lcall *c) {
  lrecord_push_count(L, ((worker_call *)c)->number);
  return 1;
}

/* worker_start(store, name, queue, host, process, pid): its number. */
static int worker_start(lua_State *L) {
  int64_t pid = (int64_t)lrecord_count(L, 6);
  worker_call *w = new_call(L);
  lcall_name(L, 2, w->name);
  lcall_name(L, 3, w->queue);
  lcall_name(L, 4, w->host);
  lcall_name(L, 5, w->process);
  w->worker.name = w->name;
  w->worker.queue = w->queue;
  w->worker.host = w->host;
  w->worker.process = w->process;
  w->worker.pid = pid;
  return lcall_do(L, &w->call, run_start, push_number);
}

static int run_seen(lcall *c) {
  worker_call *w = (worker_call *)c;
  return respool_worker_seen(c->store, w->number, &w->stopping);
}

/* worker_seen(store, number) */
static int worker_seen(lua_State *L) {
  return lcall_do(L, &new_numbered(L)->call, run_seen, lcall_true);
}

static int run_stop(lcall *c) {
  return respool_worker_stop(c->store, ((worker_call *)c)->number);
}

/* worker_stop(store, number) */
static int worker_stop(lua_State *L) {
  return lcall_do(L, &new_numbered(L)->call, run_stop, lcall_true);
}

static int run_end(lcall *c) {
  worker_call *w = (worker_call *)c;
  return respool_worker_end(c->store, w->number,
                            w->ends_leases ? &w->leases : NULL);
}

static int push_leases(lua_State *L, lcall *c) {
  lrecord_push_count(L, ((worker_call *)c)->leases);
  return 1;
}

/* worker_end(store, number, leases): with `leases` its leases end, too; how
   many items they had. */
static int worker_end(lua_State *L) {
  bool leases = lua_toboolean(L, 3);
  worker_call *w = new_numbered(L);
  w->ends_leases = leases;
  return lcall_do(L, &w->call, run_end, push_leases);
}


/* Listing. The core's callback may not touch Lua, so it packs CBOR. */

static int add_worker(void *arg, const respool_worker *w) {
  worker_call *c = arg;
  packer *p = &c->list;
  c->n++;
  pack_map(p, 9);
  lcbor_pair_text(p, "name", w->name);
  lcbor_pair_text(p, "queue", w->queue);
  lcbor_pair_text(p, "host", w->host);
  lcbor_pair_text(p, "process", w->process);
  lcbor_pair_count(p, "number", w->number);
  lcbor_pair_count(p, "pid", (uint64_t)w->pid);
  lcbor_pair_count(p, "started_at", (uint64_t)w->started_at);
  lcbor_pair_count(p, "seen_at", (uint64_t)w->seen_at);
  lcbor_pair_count(p, "stopping", w->stopping != 0);
  return p->rc;
}

static int run_list(lcall *c) {
  return respool_workers(c->store, add_worker, c);
}

static int push_list(lua_State *L, lcall *c) {
  const worker_call *w = (const worker_call *)c;
  return lcbor_push_list(L, w->n, &w->list);
}

/* workers(store): a list of maps in CBOR; times in milliseconds. */
static int workers(lua_State *L) {
  return lcall_do(L, &new_call(L)->call, run_list, push_list);
}

static const luaL_Reg METHODS[] = {
  { "worker_start", worker_start },
  { "worker_seen", worker_seen },
  { "worker_stop", worker_stop },
  { "worker_end", worker_end },
  { "workers", workers },
  { NULL, NULL }
};

void lworker_methods(lua_State *L) {
  compat_register(L, METHODS);
}

void lworker_starters(lua_State *L) {
  lticket_starters(L, "store", METHODS);
}

/* SPDX-License-Identifier: MIT */
/*
 * Stores: opening, time, lists of names, opening and dropping queues.
 */
#include "store.h"

#include "buffer_list.h"
#include "dead/dead.h"
#include "dead/replay.h"
#include "file_work.h"
#include "handles/bell.h"
#include "handles/handle.h"
#include "handles/names.h"
#include "handles/ticket.h"
#include "maintenance.h"
#include "note.h"
#include "schedule.h"
#include "transaction.h"
#include "trend.h"
#include "values/backoff.h"
#include "values/options.h"
#include "values/record.h"
#include "values/result.h"
#include "values/stats.h"
#include "verbs/exit.h"
#include "worker.h"

static respool *store(lua_State *L) {
  return lhandle_object(L, 1, LSTORE);
}

static const record_field OPTIONS[] = {
  RECORD(respool_options, sync, INT),
  RECORD(respool_options, no_create, FLAG),
  RECORD(respool_options, manual_clock, FLAG),
  RECORD(respool_options, max_readers, UINT),
  RECORD(respool_options, max_bytes, COUNT),
  RECORD(respool_options, max_item_bytes, COUNT),
  RECORD(respool_options, seed, COUNT),
  RECORD(respool_options, read_only, FLAG),
  RECORD(respool_options, timeout, SPAN),
  RECORD(respool_options, no_journal, FLAG),
  RECORD_END
};

static void close_store(void *s) {
  respool_close(s);
}

/* open(path, options): a store. */
static int store_open(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  respool_options o = RESPOOL_OPTIONS_INIT;
  lrecord_read(L, 2, OPTIONS, &o);
  handle *h = lhandle_new(L, LSTORE, close_store);
  respool *s;
  int rc = respool_open(path, &o, &s);
  if (rc)
    return lfail(L, rc);
  lhandle_open(h, NULL, s);
  return 1;
}

/* init(path, roles) */
static int store_init(lua_State *L) {
  return lresult(L, respool_init(luaL_checkstring(L, 1),
                                 lua_toboolean(L, 2)));
}

/* abandon(store): instead of close(), in a process that is to end while a
   thread of the core waits for the disk or for another process. */
static int store_abandon(lua_State *L) {
  handle *h = lhandle_check(L, 1, LSTORE);
  exit_unwatch(h->object);
  lhandle_abandon(h);
  return 0;
}

static int run_flush_buffers(lcall *c) {
  int rc = respool_buffers_flush(c->store);
  return rc ? rc : respool_flush(c->store);
}

static int flush_buffers(lua_State *L) {
  lcall *c = lcall_of_store(L, sizeof *c);
  return lcall_do(L, c, run_flush_buffers, lcall_true);
}

static int start_flush(lua_State *L) {
  handle *s = lhandle_check(L, 1, LSTORE);
  lticket *t = lticket_new(L, lticket_plain);
  int rc = respool_flush_start(s->object, &t->made);
  return lticket_return(L, t, rc, s, 0);
}

/* flush(store, buffers): with `buffers`, of what lies in them, too. */
static int store_flush(lua_State *L) {
  if (lua_toboolean(L, 2))
    return flush_buffers(L);
  if (LSTARTS(L))
    return start_flush(L);
  return lresult(L, respool_flush(store(L)));
}

static int store_now(lua_State *L) {
  lrecord_push_span(L, respool_now(store(L)));
  return 1;
}

/* advance(store, seconds), which may be negative. */
static int store_advance(lua_State *L) {
  respool *s = store(L);
  double ms = luaL_checknumber(L, 2) * 1000;
  luaL_argcheck(L, ms > -9e18 && ms < 9e18, 2, "out of range");
  return lresult(L, respool_advance(s, (int64_t)(ms < 0 ? ms - .5 : ms + .5)));
}

static int store_sleep(lua_State *L) {
  respool *s = store(L);
  return lresult(L, respool_sleep(s, lrecord_span(L, 2)));
}

static int store_random(lua_State *L) {
  lua_pushnumber(L, respool_random(store(L)));
  return 1;
}

/* watch(store): from now on its maintenance and replays note the dead letters
   that they make. */
static int store_watch(lua_State *L) {
  return lresult(L, respool_watch(store(L), 1));
}

/* notice(store): DLQ and number of the next such dead letter, or nothing. */
static int store_notice(lua_State *L) {
  respool_notice n = RESPOOL_NOTICE_INIT;
  int rc = respool_notice_next(store(L), &n);
  return rc ? lfail(L, rc) : lrecord_push_notice(L, &n);
}

static const record_field STATS[] = {
  RECORD(respool_store_stats, map_bytes, COUNT),
  RECORD(respool_store_stats, file_bytes, COUNT),
  RECORD(respool_store_stats, used_bytes, COUNT),
  RECORD(respool_store_stats, max_bytes, COUNT),
  RECORD(respool_store_stats, available_bytes, LIMIT),
  RECORD(respool_store_stats, last_txn, COUNT),
  RECORD(respool_store_stats, readers, UINT),
  RECORD(respool_store_stats, max_readers, UINT),
  RECORD(respool_store_stats, disk_full, FLAG),
  RECORD(respool_store_stats, id, NAME),
  RECORD(respool_store_stats, journal_items, COUNT),
  RECORD(respool_store_stats, journal_bytes, COUNT),
  RECORD(respool_store_stats, journal_flushes, COUNT),
  RECORD(respool_store_stats, snapshot_age, SPAN),
  RECORD(respool_store_stats, dead_rows, COUNT),
  RECORD_END
};

typedef struct stat_call {
  lcall call;
  respool_store_stats out;
} stat_call;

static int run_stat(lcall *c) {
  return respool_store_stat(c->store, &((stat_call *)c)->out);
}

static int push_stat(lua_State *L, lcall *c) {
  const respool_store_stats *stats = &((stat_call *)c)->out;
  lrecord_push(L, STATS, stats);
  lstats_store(L, stats);
  return 1;
}

static int store_stat(lua_State *L) {
  stat_call *c = lcall_of_store(L, sizeof *c);
  c->out.size = sizeof c->out;
  return lcall_do(L, &c->call, run_stat, push_stat);
}

static int store_queues(lua_State *L) {
  return lnames_list(L, store(L), respool_queues);
}

static int store_dlqs(lua_State *L) {
  return lnames_list(L, store(L), respool_dead_letter_queues);
}

typedef struct check_call {
  lcall call;
  packer found;
} check_call;

static void free_check(lcall *c) {
  packer_free(&((check_call *)c)->found);
}

static int run_check(lcall *c) {
  return respool_check(c->store, lnames_add, &((check_call *)c)->found);
}

static int push_check(lua_State *L, lcall *c) {
  lnames_push(L, &((check_call *)c)->found);
  return 1;
}

static int store_check(lua_State *L) {
  check_call *c = lcall_of_store(L, sizeof *c);
  packer_init(&c->found);
  c->call.free = free_check;
  return lcall_do(L, &c->call, run_check, push_check);
}

typedef struct drop_call {
  lcall call;
  lname name;
} drop_call;

static int run_drop(lcall *c) {
  return respool_queue_drop(c->store, ((drop_call *)c)->name);
}

static int store_drop(lua_State *L) {
  drop_call *c = lcall_of_store(L, sizeof *c);
  lcall_name(L, 2, c->name);
  return lcall_do(L, &c->call, run_drop, lcall_true);
}

static void free_queue(void *q) {
  respool_queue_free(q);
}

typedef struct open_call {
  lcall call;
  lname name, dlq;
  respool_queue_options options;
  respool_backoff backoff;
  respool_weights weights;
  respool_queue *made;
} open_call;

static void free_made(lcall *c) {
  respool_queue_free(((open_call *)c)->made);
}

static int run_open(lcall *c) {
  open_call *o = (open_call *)c;
  return respool_queue_open(c->store, o->name, &o->options, &o->made);
}

static int push_queue(lua_State *L, lcall *c) {
  open_call *o = (open_call *)c;
  handle *h = lhandle_new(L, LQUEUE, free_queue);
  lhandle_open(h, c->parent, o->made);
  o->made = NULL;
  return 1;
}

/* The DLQ's name is the table's. */
static void own_dlq(lua_State *L, open_call *c) {
  if (!c->options.dlq)
    return;
  lua_pushstring(L, c->options.dlq);
  lcall_name(L, -1, c->dlq);
  c->options.dlq = c->dlq;
  lua_pop(L, 1);
}

/* queue(store, name, options): a queue. */
static int store_queue(lua_State *L) {
  open_call *c = lcall_of_store(L, sizeof *c);
  c->options = (respool_queue_options)RESPOOL_QUEUE_OPTIONS_INIT;
  c->call.free = free_made;
  lcall_name(L, 2, c->name);
  loptions_queue(L, 3, &c->options, &c->backoff, &c->weights);
  own_dlq(L, c);
  return lcall_do(L, &c->call, run_open, push_queue);
}

/* find(store, name): a queue that there is. */
static int store_find(lua_State *L) {
  handle *parent = lhandle_check(L, 1, LSTORE);
  const char *name = luaL_checkstring(L, 2);
  handle *h = lhandle_new(L, LQUEUE, free_queue);
  respool_queue *q;
  int rc = respool_queue_find(parent->object, name, &q);
  if (rc)
    return lfail(L, rc);
  lhandle_open(h, parent, q);
  return 1;
}

/* wake(store, bell): rings the bell when something may be ready. */
static int store_wake(lua_State *L) {
  respool *s = lhandle_object(L, 1, LSTORE);
  return lresult(L, respool_wake(s, lbell_fd(L, 2)));
}

static const luaL_Reg METHODS[] = {
  { "abandon", store_abandon },
  { "flush", store_flush },
  { "now", store_now },
  { "advance", store_advance },
  { "sleep", store_sleep },
  { "random", store_random },
  { "wake", store_wake },
  { "watch", store_watch },
  { "notice", store_notice },
  { "stat", store_stat },
  { "queues", store_queues },
  { "dead_letter_queues", store_dlqs },
  { "check", store_check },
  { "drop", store_drop },
  { "queue", store_queue },
  { "find", store_find },
  { NULL, NULL }
};

static const luaL_Reg WAITING[] = {
  { "flush", store_flush },
  { "stat", store_stat },
  { "check", store_check },
  { "drop", store_drop },
  { "queue", store_queue },
  { NULL, NULL }
};

void lstore_open(lua_State *L) {
  lhandle_type(L, LSTORE, METHODS);
  lua_getfield(L, -1, "__index");
  ldead_methods(L);
  lreplay_methods(L);
  lnote_methods(L);
  lfile_work_methods(L);
  lschedule_methods(L);
  lworker_methods(L);
  ltrend_methods(L);
  ltx_methods(L);
  lmaintenance_methods(L);
  lbuffers_methods(L);
  lua_pop(L, 2);
  lticket_starters(L, "store", WAITING);
  ldead_starters(L);
  lreplay_starters(L);
  lnote_starters(L);
  lfile_work_starters(L);
  lschedule_starters(L);
  lworker_starters(L);
  ltrend_starters(L);
  lmaintenance_starters(L);
  lbuffers_starters(L);
  lua_pushcfunction(L, store_open);
  lua_setfield(L, -2, "open");
  lua_pushcfunction(L, store_init);
  lua_setfield(L, -2, "init");
}

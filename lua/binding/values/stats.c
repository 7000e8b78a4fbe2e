/* SPDX-License-Identifier: MIT */
/*
 * A histogram is a table { count =, sum =, buckets = { { upto =, count = },
 * ... } }; each bucket counts what is up to its bound and over the one
 * before, the last bound is math.huge. Durations are in seconds.
 */
#include "stats.h"

#include <math.h>

#include "record.h"

/* A histogram as Lua sees it: its bounds, and the unit of its numbers. */
typedef struct scale {
  uint64_t (*bound)(int i);
  double unit;
} scale;

static const scale SECONDS = { respool_bucket_bound, 1e6 };
static const scale COUNTS = { respool_count_bound, 1 };

static void push_bucket(lua_State *L, uint64_t bound, uint64_t n,
                        double unit) {
  lua_createtable(L, 0, 2);
  lua_pushnumber(L, bound == UINT64_MAX ? HUGE_VAL : (double)bound / unit);
  lua_setfield(L, -2, "upto");
  lrecord_push_count(L, n);
  lua_setfield(L, -2, "count");
}

static void set_histogram(lua_State *L, const char *name,
                          const respool_histogram *h, const scale *s) {
  lua_createtable(L, 0, 3);
  lrecord_push_count(L, h->count);
  lua_setfield(L, -2, "count");
  lua_pushnumber(L, (double)h->sum / s->unit);
  lua_setfield(L, -2, "sum");
  lua_createtable(L, RESPOOL_BUCKETS, 0);
  for (int i = 0; i < RESPOOL_BUCKETS; i++) {
    push_bucket(L, s->bound(i), h->buckets[i], s->unit);
    lua_rawseti(L, -2, i + 1);
  }
  lua_setfield(L, -2, "buckets");
  lua_setfield(L, -2, name);
}

/* Adds RESPOOL_FLUSH_REASONS counts to the table on the top. */
static void set_flushes(lua_State *L, const uint64_t *flushes) {
  static const char *const reasons[RESPOOL_FLUSH_REASONS] = {
    [RESPOOL_FLUSH_ITEMS] = "items", [RESPOOL_FLUSH_BYTES] = "bytes",
    [RESPOOL_FLUSH_PUSHES] = "pushes", [RESPOOL_FLUSH_INTERVAL] = "interval",
    [RESPOOL_FLUSH_MANUAL] = "manual", [RESPOOL_FLUSH_CLOSE] = "close",
  };
  lua_createtable(L, 0, RESPOOL_FLUSH_REASONS - 1);
  for (int i = RESPOOL_FLUSH_NONE + 1; i < RESPOOL_FLUSH_REASONS; i++) {
    lrecord_push_count(L, flushes[i]);
    lua_setfield(L, -2, reasons[i]);
  }
  lua_setfield(L, -2, "flushes");
}

static void set_deaths(lua_State *L, const uint64_t *died_by) {
  lua_createtable(L, 0, RESPOOL_DEATHS);
  for (int i = 0; i < RESPOOL_DEATHS; i++) {
    lrecord_push_count(L, died_by[i]);
    lua_setfield(L, -2, respool_death_name(i));
  }
  lua_setfield(L, -2, "died_by");
}

void lstats_queue(lua_State *L, const respool_queue_stats *stats) {
  set_flushes(L, stats->flushes);
  set_deaths(L, stats->died_by);
}

void lstats_times(lua_State *L, const respool_queue_stats *stats) {
  set_histogram(L, "wait", &stats->wait, &SECONDS);
  set_histogram(L, "handle", &stats->handle, &SECONDS);
}

static const record_field BUFFER[] = {
  RECORD(respool_buffer_stats, items, COUNT),
  RECORD(respool_buffer_stats, bytes, COUNT),
  RECORD(respool_buffer_stats, memory, COUNT),
  RECORD(respool_buffer_stats, pushed, COUNT),
  RECORD(respool_buffer_stats, failures, COUNT),
  RECORD_END
};

void lstats_buffer(lua_State *L, const respool_buffer_stats *stats) {
  lrecord_push(L, BUFFER, stats);
  set_flushes(L, stats->flushes);
  if (!stats->error)
    return;
  lua_pushstring(L, stats->error_text);
  lua_setfield(L, -2, "error");
  lua_pushstring(L, respool_errname(stats->error));
  lua_setfield(L, -2, "code");
}

void lstats_store(lua_State *L, const respool_store_stats *stats) {
  set_histogram(L, "commits", &stats->commits, &SECONDS);
  set_histogram(L, "commit_operations", &stats->commit_operations, &COUNTS);
}

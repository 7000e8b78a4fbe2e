/* SPDX-License-Identifier: MIT */
/*
 * Opening and closing a store.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "threads/wait.h"
#include "verbs/consume/batch.h"
#include "verbs/engines.h"
#include "verbs/exit.h"
#include "verbs/produce/buffer_list.h"
#include "verbs/store/store.h"

#define MAX_BYTES ((uint64_t)16 << 30)
#define MIN_BYTES ((uint64_t)1 << 20)
#define MAX_ITEM_BYTES ((uint64_t)64 << 20)
#define TOP_ITEM_BYTES ((uint64_t)1 << 30)

static int options_check(const char *path, const respool_options *o) {
  bool memory = !strcmp(path, ":memory:");
  int rc = SIZE_CHECK(o, RESPOOL_OPTIONS_INIT);
  if (rc) return rc;
  if (o->sync < 0 || o->sync > RESPOOL_SYNC_NONE)
    return invalid("sync", "commit, relaxed or none");
  if (o->sync == RESPOOL_SYNC_NONE && !memory)
    return invalid("sync", "commit or relaxed, but for ':memory:'");
  if (o->max_bytes && o->max_bytes < MIN_BYTES)
    return invalid("max_bytes", "at least 1 MiB");
  if (o->max_bytes > (uint64_t)1 << 44)
    return invalid("max_bytes", "at most 16 TiB");
  if (o->max_item_bytes > TOP_ITEM_BYTES)
    return invalid("max_item_bytes", "at most 1 GiB");
  if (o->read_only && memory)
    return invalid("read_only", "false for ':memory:'");
  if (o->timeout < 0) return invalid("timeout", "0 or more");
  if (o->max_readers > 65536) return invalid("max_readers", "at most 65536");
  return 0;
}

/* A server has no bound of ours. */
static int engine_check(const engine *g, const respool_options *o) {
  if (g->compact || (!o->max_bytes && !o->max_readers)) return 0;
  return fail(RESPOOL_INVALID, "%s is for stores in files",
              o->max_bytes ? "max_bytes" : "max_readers");
}

static respool *store_new(const respool_options *o) {
  respool *s = calloc(1, sizeof *s);
  if (!s) return NULL;
  clock_init(&s->clock, o->manual_clock);
  random_init(&s->random, o->seed);
  timers_init(&s->timers, &s->clock);
  clock_init(&s->real, false);
  timers_init(&s->calls, &s->real);
  buffers_init(s);
  notices_init(&s->notices);
  pthread_mutex_init(&s->kept.lock, NULL);
  s->read_only = o->read_only;
  s->no_journal = o->no_journal;
  s->durable = o->sync == RESPOOL_SYNC_COMMIT;
  s->timeout = o->timeout;
  s->max_bytes = o->max_bytes ? o->max_bytes : MAX_BYTES;
  s->max_item_bytes = o->max_item_bytes ? o->max_item_bytes
                                        : MAX_ITEM_BYTES;
  s->pid = getpid();
  s->forks = store_forks();
  return s;
}

int respool_open(const char *path, const respool_options *o, respool **out) {
  static const respool_options defaults = RESPOOL_OPTIONS_INIT;
  store_count_forks();
  if (!o) o = &defaults;
  if (!path || !*path) return invalid("path", "a directory's name");
  int rc = options_check(path, o);
  if (!rc) rc = engine_check(engine_of(path), o);
  if (rc) return rc;
  respool *s = store_new(o);
  if (!s) return fail(RESPOOL_NOMEM, "not enough memory for a store");
  respool_options full = *o;
  full.max_bytes = s->max_bytes;
  if (!engine_of(path)->compact) s->max_bytes = 0;
  wait_begin();
  wait_limit(s->timeout);
  rc = engine_of(path)->open(path, &full, commit_open, &s->env);
  wait_limit(0);
  if (rc) {
    timers_stop(&s->calls);
    timers_stop(&s->timers);
    notices_free(&s->notices);
    free(s);
    return rc;
  }
  if (!strcmp(path, ":memory:")) s->durable = false;
  exit_watch(s);
  *out = s;
  return 0;
}

int respool_init(const char *path, int roles) {
  respool *s;
  int rc = path && !strcmp(path, ":memory:")
               ? invalid("path", "a directory's name, or a URL")
               : respool_open(path, NULL, &s);
  if (rc) return rc;
  const engine *g = s->env->engine;
  if (roles)
    rc = g->grant ? g->grant(s->env)
                  : invalid("roles", "0 for a store in files");
  respool_close(s);
  return rc;
}

void respool_close(respool *s) {
  if (!s) return;
  exit_unwatch(s);
  if (!store_check(s)) {
    commit_drain(s->env, &s->running);
    timers_stop(&s->calls);
    buffers_end(s);
    timers_stop(&s->timers);
    s->env->engine->close(s->env);
  } else
    buffers_forget(s, NULL);
  batch_free_kept(s);
  notices_free(&s->notices);
  free(s);
}

/* SPDX-License-Identifier: MIT */
/*
 * The store: opening and closing it, its clock, its names, its figures.
 */
#include "verbs/buffer.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_BYTES ((uint64_t)16 << 30)
#define MIN_BYTES ((uint64_t)1 << 20)
#define MAX_ITEM_BYTES ((uint64_t)64 << 20)
#define TOP_ITEM_BYTES ((uint64_t)1 << 30)

/* ---- what the verbs share ----------------------------------------------- */

/* Counts the forks that led to this process; cheaper to ask than the pid. */
static _Atomic unsigned forks;

static void count_fork(void) {
  forks++;
}

static void watch_forks(void) {
  pthread_atfork(NULL, NULL, count_fork);
}

int store_check(const respool *s) {
  if (!s) return fail(RESPOOL_INVALID, "the store is NULL");
  if (s->forks == forks) return 0;
  return fail(RESPOOL_FORKED, "the store was opened by process %d: open it "
              "again in this one", s->pid);
}

int invalid(const char *what, const char *rule) {
  return fail(RESPOOL_INVALID, "%s must be %s", what, rule);
}

int name_check(const char *name, const char *what) {
  if (!name || !*name || strlen(name) > RESPOOL_NAME_MAX)
    return invalid(what, "a name of 1 to 255 bytes");
  return 0;
}

int store_run(respool *s, op *o, int (*run)(txn *t, op *o), bool durable) {
  if (s->read_only)
    return fail(RESPOOL_INVALID, "the store was opened read_only");
  o->run = run;
  o->durable = durable && s->durable;
  return commit_op(s->env, o);
}

int pace_after(pace *p, int rc) {
  if (!rc) {
    p->page = p->page < p->most / 2 ? p->page * 2 : p->most;
    return 0;
  }
  if (rc != RESPOOL_NOSPACE || p->page == 1) return rc;
  p->page = p->page / 8 + 1;
  return 0;
}

int store_read(respool *s, op *o, int (*run)(txn *t, op *o)) {
  return commit_read(s->env, run, o);
}

/* ---- open and close ----------------------------------------------------- */

static int options_check(const char *path, const respool_options *o) {
  bool memory = !strcmp(path, ":memory:");
  if (o->size != sizeof *o) return invalid("options.size", "set by _INIT");
  if (o->sync < 0 || o->sync > RESPOOL_SYNC_NONE)
    return invalid("sync", "commit, relaxed or none");
  if (o->sync == RESPOOL_SYNC_NONE && !memory)
    return invalid("sync", "commit or relaxed, but for \":memory:\"");
  if (o->max_bytes && o->max_bytes < MIN_BYTES)
    return invalid("max_bytes", "at least 1 MiB");
  if (o->max_bytes > (uint64_t)1 << 44)
    return invalid("max_bytes", "at most 16 TiB");
  if (o->max_item_bytes > TOP_ITEM_BYTES)
    return invalid("max_item_bytes", "at most 1 GiB");
  if (o->read_only && memory)
    return invalid("read_only", "0 for \":memory:\"");
  if (o->max_readers > 65536) return invalid("max_readers", "at most 65536");
  return 0;
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
  s->read_only = o->read_only;
  s->durable = o->sync == RESPOOL_SYNC_COMMIT;
  s->max_bytes = o->max_bytes ? o->max_bytes : MAX_BYTES;
  s->max_item_bytes = o->max_item_bytes ? o->max_item_bytes
                                        : MAX_ITEM_BYTES;
  s->pid = getpid();
  s->forks = forks;
  return s;
}

int respool_open(const char *path, const respool_options *o, respool **out) {
  static const respool_options defaults = RESPOOL_OPTIONS_INIT;
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, watch_forks);
  if (!o) o = &defaults;
  if (!path || !*path) return invalid("path", "a directory's name");
  int rc = options_check(path, o);
  if (rc) return rc;
  respool *s = store_new(o);
  if (!s) return fail(RESPOOL_NOMEM, "not enough memory for a store");
  respool_options full = *o;
  full.max_bytes = s->max_bytes;
  rc = engine_lmdb.open(path, &full, &s->env);
  if (rc) {
    timers_stop(&s->calls);
    timers_stop(&s->timers);
    free(s);
    return rc;
  }
  if (!strcmp(path, ":memory:")) s->durable = false;
  *out = s;
  return 0;
}

void respool_close(respool *s) {
  if (!s) return;
  if (s->forks == forks) {
    commit_drain(s->env, &s->running);
    timers_stop(&s->calls);
    buffers_end(s);
    timers_stop(&s->timers);
    s->env->engine->close(s->env);
  } else
    buffers_forget(s, NULL);
  free(s);
}

int respool_flush(respool *s) {
  int rc = store_check(s);
  return rc ? rc : commit_flush(s->env);
}

/* ---- clock and chance --------------------------------------------------- */

int64_t respool_now(respool *s) {
  return clock_now(&s->clock);
}

int respool_advance(respool *s, int64_t ms) {
  int rc = store_check(s);
  if (rc) return rc;
  if (!s->clock.manual) return invalid("clock", "manual to be advanced");
  timers_advance(&s->timers, &s->clock, ms);
  return 0;
}

int respool_sleep(respool *s, int64_t ms) {
  int rc = store_check(s);
  if (rc || ms <= 0) return rc;
  if (s->clock.manual)
    timers_advance(&s->timers, &s->clock, ms);
  else {
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
  }
  return 0;
}

uint64_t respool_mono(void) {
  return (uint64_t)clock_mono_us();
}

double respool_random(respool *s) {
  return random_next(&s->random);
}

/* ---- figures ------------------------------------------------------------ */

typedef struct stat_op {
  op op;
  respool_store_stats out;
} stat_op;

static int run_stat(txn *t, op *o) {
  return engine_lmdb.stat(t, &((stat_op *)o)->out);
}

int respool_store_stat(respool *s, respool_store_stats *out) {
  stat_op o = {.out = RESPOOL_STORE_STATS_INIT};
  int rc = store_check(s);
  if (!rc && out->size != sizeof *out) rc = invalid("size", "set by _INIT");
  if (!rc) rc = store_read(s, &o.op, run_stat);
  if (rc) return rc;
  *out = o.out;
  out->size = sizeof *out;
  out->max_bytes = s->max_bytes;
  commit_figures(s->env, &out->commits, &out->commit_operations);
  return 0;
}

/* ---- names -------------------------------------------------------------- */

typedef struct names_op {
  op op;
  int which;
  packer out;
} names_op;

static int run_names(txn *t, op *o) {
  names_op *n = (names_op *)o;
  return engine_lmdb.names(t, n->which, &n->out);
}

static int each_name(const packer *p, respool_name_fn each, void *arg) {
  char name[RESPOOL_NAME_MAX + 1];
  int rc = 0;
  unpacker u;
  unpacker_init(&u, p->data, p->len);
  size_t n = unpack_array(&u);
  while (n-- > 0 && !rc && !u.rc) {
    respool_bytes b = unpack_phrase(&u);
    if (b.size > RESPOOL_NAME_MAX) continue;
    memcpy(name, b.data, b.size);
    name[b.size] = '\0';
    rc = each(arg, name);
  }
  return rc;
}

static int list_names(respool *s, int which, respool_name_fn each,
                      void *arg) {
  names_op o = {.which = which};
  int rc = store_check(s);
  if (rc) return rc;
  packer_init(&o.out);
  rc = store_read(s, &o.op, run_names);
  if (!rc) rc = each_name(&o.out, each, arg);
  packer_free(&o.out);
  return rc;
}

int respool_queues(respool *s, respool_name_fn each, void *arg) {
  return list_names(s, NAMES_QUEUES, each, arg);
}

int respool_dead_letter_queues(respool *s, respool_name_fn each, void *arg) {
  return list_names(s, NAMES_DLQS, each, arg);
}

int respool_replays(respool *s, respool_name_fn each, void *arg) {
  return list_names(s, NAMES_REPLAYS, each, arg);
}

/* ---- check -------------------------------------------------------------- */

typedef struct check_op {
  op op;
  packer out;
} check_op;

static int run_check(txn *t, op *o) {
  return engine_lmdb.check(t, &((check_op *)o)->out);
}

static int each_finding(const packer *p, respool_finding_fn each,
                        void *arg) {
  char line[600];
  int rc = 0;
  unpacker u;
  unpacker_init(&u, p->data, p->len);
  while (u.at < u.end && !rc && !u.rc) {
    respool_bytes b = phrase_cut(unpack_phrase(&u), sizeof line - 1);
    memcpy(line, b.data, b.size);
    line[b.size] = '\0';
    rc = each(arg, line);
  }
  return rc;
}

int respool_check(respool *s, respool_finding_fn each, void *arg) {
  check_op o;
  int rc = store_check(s);
  if (rc) return rc;
  packer_init(&o.out);
  rc = store_read(s, &o.op, run_check);
  if (!rc) rc = each_finding(&o.out, each, arg);
  packer_free(&o.out);
  return rc;
}

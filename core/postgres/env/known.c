/* SPDX-License-Identifier: MIT */
/*
 * Remembering of queues; see known.h. An entry is never freed while the
 * environment is open.
 */
#include "postgres/env/known.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/histogram.h"

#define TELL_AFTER 1000 /* ms */

typedef struct known_queue {
  struct known_queue *next;
  char name[RESPOOL_NAME_MAX + 1];
  pg_queue queue;
  take_marks marks;
  observed observed;
  bool untold;
  int64_t told; /* when, by the monotonic clock */
} known_queue;

int no_queue(const char *name) {
  return fail(RESPOOL_NOT_FOUND, "there is no queue '%.160s'", name);
}

static known_queue *find(pg_env *e, const char *name) {
  known_queue *k = e->queues;
  while (k && strcmp(k->name, name)) k = k->next;
  return k;
}

static known_queue *find_or_make(pg_env *e, const char *name) {
  known_queue *k = find(e, name);
  if (k) return k;
  k = calloc(1, sizeof *k);
  if (!k) return NULL;
  strcpy(k->name, name);
  k->next = e->queues;
  e->queues = k;
  return k;
}

void known_free(pg_env *e) {
  while (e->queues) {
    known_queue *next = e->queues->next;
    marks_free(&e->queues->marks.marks);
    free(e->queues->marks.credits);
    free(e->queues);
    e->queues = next;
  }
}

/* ---- policies ----------------------------------------------------------- */

/* Columns of the table queue, in their order. */
enum { ID, VERSION, PAUSED, CONFIG = 19 };

static int read_queue(const PGresult *r, const char *name, pg_queue *out) {
  unpacker u;
  respool_bytes config = value_bytes(r, 0, CONFIG);
  unpacker_init(&u, config.data, config.size);
  out->id = (int)value_int(r, 0, ID);
  out->version = (int)value_int(r, 0, VERSION);
  out->paused = value_bool(r, 0, PAUSED);
  config_unpack(&u, &out->config);
  if (!u.rc) return 0;
  return fail(RESPOOL_CORRUPT, "the policy of queue '%.120s' is damaged",
              name);
}

static void remember(pg_env *e, const char *name, const pg_queue *q) {
  pthread_mutex_lock(&e->lock);
  known_queue *k = find_or_make(e, name);
  if (k) k->queue = *q;
  pthread_mutex_unlock(&e->lock);
}

int known_load(pg_env *e, session *l, const char *name, pg_queue *out) {
  values v;
  request r = {.statement = STATEMENT_QUEUE, .values = &v};
  call k = {.requests = &r, .n = 1};
  values_init(&v);
  put_text(&v, name);
  int rc = call_run(l, &k);
  if (!rc)
    rc = pq.ntuples(r.result) ? read_queue(r.result, name, out)
                              : no_queue(name);
  call_clear(&k);
  values_free(&v);
  if (!rc) remember(e, name, out);
  if (rc == RESPOOL_NOT_FOUND) known_forget(e, name);
  return rc;
}

int known_find(pg_env *e, session *l, const char *name, pg_queue *out) {
  pthread_mutex_lock(&e->lock);
  const known_queue *k = find(e, name);
  bool known = k && k->queue.id;
  if (known) *out = k->queue;
  pthread_mutex_unlock(&e->lock);
  return known ? 0 : known_load(e, l, name, out);
}

void known_forget(pg_env *e, const char *name) {
  pthread_mutex_lock(&e->lock);
  known_queue *k = find(e, name);
  if (k) k->queue.id = 0;
  pthread_mutex_unlock(&e->lock);
}

void known_drop(pg_env *e, const char *name) {
  pthread_mutex_lock(&e->lock);
  known_queue *k = find(e, name);
  if (k) {
    k->queue.id = 0;
    memset(&k->observed, 0, sizeof k->observed);
    k->untold = false;
  }
  pthread_mutex_unlock(&e->lock);
}

take_marks *known_marks(pg_env *e, const char *name, int id) {
  pthread_mutex_lock(&e->lock);
  known_queue *k = find(e, name);
  pthread_mutex_unlock(&e->lock);
  if (!k) return NULL;
  if (k->marks.id != id) marks_free(&k->marks.marks); /* it was made anew */
  k->marks.id = id;
  return &k->marks;
}

/* ---- counters ----------------------------------------------------------- */

void known_observe(pg_env *e, const char *name, const observed *more) {
  pthread_mutex_lock(&e->lock);
  known_queue *k = find_or_make(e, name);
  if (k) {
    k->observed.late += more->late;
    k->observed.delivered += more->delivered;
    k->observed.delivered_bytes += more->delivered_bytes;
    histogram_merge(&k->observed.wait, &more->wait);
    histogram_merge(&k->observed.handle, &more->handle);
    k->untold = true;
  }
  pthread_mutex_unlock(&e->lock);
}

/* Count, sum and buckets; NULL where nothing was counted. */
static void put_histogram(values *v, const respool_histogram *h) {
  if (!h->count) {
    put_null(v);
    return;
  }
  array_begin(v, TYPE_INT8, 2 + RESPOOL_BUCKETS);
  add_int8(v, (int64_t)h->count);
  add_int8(v, (int64_t)h->sum);
  for (size_t i = 0; i < RESPOOL_BUCKETS; i++)
    add_int8(v, (int64_t)h->buckets[i]);
  array_end(v);
}

/* If the server cannot be reached the counts are lost, as they must not be
   reported twice. */
static void tell(session *l, int id, const observed *o) {
  values v;
  request r = {.statement = STATEMENT_OBSERVE, .values = &v};
  call k = {.requests = &r, .n = 1, .relaxed = true};
  values_init(&v);
  put_int4(&v, id);
  put_int4(&v, session_slot(l));
  put_int8(&v, (int64_t)o->late);
  put_int8(&v, (int64_t)o->delivered);
  put_int8(&v, (int64_t)o->delivered_bytes);
  put_histogram(&v, &o->wait);
  put_histogram(&v, &o->handle);
  (void)call_run(l, &k);
  call_clear(&k);
  values_free(&v);
}

/* The next queue with counters to be reported; false: there is none. */
static bool take_untold(pg_env *e, int64_t before,
                        char name[RESPOOL_NAME_MAX + 1], observed *o) {
  pthread_mutex_lock(&e->lock);
  known_queue *k = e->queues;
  while (k && !(k->untold && k->told <= before)) k = k->next;
  if (k) {
    strcpy(name, k->name);
    *o = k->observed;
    memset(&k->observed, 0, sizeof k->observed);
    k->untold = false;
    k->told = clock_mono();
  }
  pthread_mutex_unlock(&e->lock);
  return k != NULL;
}

static void tell_all(pg_env *e, session *l, int64_t before) {
  char name[RESPOOL_NAME_MAX + 1];
  pg_queue q;
  observed o;
  while (l && take_untold(e, before, name, &o))
    if (!known_find(e, l, name, &q)) tell(l, q.id, &o);
}

void known_tell(pg_env *e) {
  session *l = pg_session_take(e);
  tell_all(e, l, INT64_MAX);
  pg_session_give(e, l);
}

void known_tell_old(pg_env *e) {
  tell_all(e, &e->writer, clock_mono() - TELL_AFTER);
}

/* SPDX-License-Identifier: MIT */
/*
 * The queue: its policy, looking at it, removing from it.
 */
#include "verbs/store.h"

#include <stdlib.h>
#include <string.h>

#define PURGE_PAGE 4096 /* items removed in one commit */

/* ---- opening ------------------------------------------------------------ */

static bool in(int64_t v, int64_t low, int64_t high) {
  return v == RESPOOL_KEEP || (v >= low && v <= high);
}

static int weights_check(const respool_weights *w) {
  if (w->n > RESPOOL_WEIGHTS_MAX) return invalid("weights", "16 at most");
  for (size_t i = 0; i < w->n; i++) {
    if (w->of[i].priority < 0 || w->of[i].priority >= RESPOOL_PRIORITIES)
      return invalid("weights", "of priorities 0 to 255");
    if (w->of[i].weight < 1 || w->of[i].weight > 1000)
      return invalid("weights", "1 to 1000");
    for (size_t k = 0; k < i; k++)
      if (w->of[k].priority == w->of[i].priority)
        return invalid("weights", "given once a priority");
  }
  return 0;
}

static int policy_check(const respool_queue_options *o) {
  if (o->size != sizeof *o) return invalid("options.size", "set by _INIT");
  if (!in(o->lease, 1, LEASE_MAX))
    return invalid("lease", "1 ms to 7 days");
  if (!in(o->max_lease, 1, INT64_MAX)) return invalid("max_lease", "positive");
  if (!in(o->max_attempts, 1, INT64_MAX))
    return invalid("max_attempts", "at least 1");
  if (!in(o->max_crashes, 1, INT64_MAX))
    return invalid("max_crashes", "at least 1");
  if (!in(o->ttl, 0, INT64_MAX)) return invalid("ttl", "0 or more");
  if (!in(o->cooldown, 0, INT64_MAX)) return invalid("cooldown", "0 or more");
  if (!in(o->on_exhausted, 0, RESPOOL_LIMIT_COOLDOWN))
    return invalid("on_exhausted", "dead, drop or cooldown");
  if (!in(o->on_expire, 0, RESPOOL_LIMIT_DROP))
    return invalid("on_expire", "dead or drop");
  if (!in(o->ordered, 0, 1)) return invalid("ordered", "0 or 1");
  if (!in(o->max_items, 0, INT64_MAX))
    return invalid("max_items", "0 or more");
  if (!in(o->max_queue_bytes, 0, INT64_MAX))
    return invalid("max_queue_bytes", "0 or more");
  if (!in(o->overflow, 0, RESPOOL_OVERFLOW_WAIT))
    return invalid("overflow", "reject, drop_oldest, dead or wait");
  if (!in(o->keep_done, 0, INT64_MAX))
    return invalid("keep_done", "0 or more");
  if (!in(o->keep_done_bytes, 0, INT64_MAX))
    return invalid("keep_done_bytes", "0 or more");
  if (!in(o->keep_dead, 0, INT64_MAX))
    return invalid("keep_dead", "0 or more");
  int rc = o->backoff ? respool_backoff_check(o->backoff) : 0;
  if (!rc && o->dlq) rc = name_check(o->dlq, "dlq");
  return !rc && o->weights ? weights_check(o->weights) : rc;
}

typedef struct open_op {
  op op;
  const char *name;
  const respool_queue_options *options;
  bool agrees; /* there is nothing to change */
} open_op;

static int run_open(txn *t, op *o) {
  open_op *p = (open_op *)o;
  return engine_lmdb.queue_open(t, p->name, p->options);
}

/* NOT_FOUND: to be made. */
static int run_agrees(txn *t, op *o) {
  open_op *p = (open_op *)o;
  return engine_lmdb.queue_agrees(t, p->name, p->options, &p->agrees);
}

/* A queue whose policy is what it is asked to be is only looked at, which
   waits for no writer. Who changes it meanwhile comes after. */
static int open_or_make(respool *s, open_op *p) {
  int rc = s->read_only ? 0 : store_read(s, &p->op, run_agrees);
  if (rc && rc != RESPOOL_NOT_FOUND) return rc;
  return p->agrees ? 0 : store_run(s, &p->op, run_open, true);
}

static respool_queue *queue_new(respool *s, const char *name) {
  respool_queue *q = calloc(1, sizeof *q);
  if (!q) return NULL;
  q->store = s;
  q->refs = 1;
  q->bound = RESPOOL_KEEP;
  notices_init(&q->notices);
  strcpy(q->name, name);
  return q;
}

int respool_queue_open(respool *s, const char *name,
                       const respool_queue_options *o, respool_queue **out) {
  static const respool_queue_options keep = RESPOOL_QUEUE_OPTIONS_INIT;
  open_op p = {.name = name, .options = o ? o : &keep};
  int rc = store_check(s);
  if (!rc) rc = name_check(name, "queue name");
  if (!rc) rc = policy_check(p.options);
  if (rc) return rc;
  respool_queue *q = queue_new(s, name);
  if (!q) return fail(RESPOOL_NOMEM, "not enough memory for a queue");
  rc = open_or_make(s, &p);
  if (rc)
    respool_queue_free(q);
  else
    *out = q;
  return rc;
}

respool_queue *respool_queue_ref(respool_queue *q) {
  q->refs++;
  return q;
}

respool *respool_queue_store(const respool_queue *q) {
  return q->store;
}

void respool_queue_free(respool_queue *q) {
  if (!q || --q->refs > 0) return;
  notices_free(&q->notices);
  free(q);
}

int respool_queue_watch(respool_queue *q, int on) {
  int rc = queue_check(q);
  if (!rc) q->notices.wanted = on != 0;
  return rc;
}

int respool_queue_notice(respool_queue *q, respool_notice *out) {
  int rc = queue_check(q);
  if (!rc && out->size != sizeof *out) rc = invalid("size", "set by _INIT");
  if (!rc && !notices_take(&q->notices, out)) out->number = 0;
  return rc;
}

notices *queue_notices(respool_queue *q) {
  return q->notices.wanted ? &q->notices : NULL;
}

int queue_check(const respool_queue *q) {
  if (!q) return fail(RESPOOL_INVALID, "the queue is NULL");
  return store_check(q->store);
}

/* ---- policy, pause, figures --------------------------------------------- */

typedef struct queue_op {
  op op;
  respool_queue *q;
  bool paused;
  queue_config config;
  respool_queue_stats stats;
  int64_t now;
} queue_op;

static int run_config(txn *t, op *o) {
  queue_op *p = (queue_op *)o;
  return engine_lmdb.queue_config(t, p->q->name, &p->config);
}

int respool_queue_config(respool_queue *q, respool_queue_options *out,
                         respool_backoff *backoff, char *dlq,
                         respool_weights *weights) {
  queue_op o = {.q = q};
  int rc = queue_check(q);
  if (!rc) rc = store_read(q->store, &o.op, run_config);
  if (rc) return rc;
  const queue_config *c = &o.config;
  *out = (respool_queue_options){
    sizeof *out, c->lease, c->max_lease, c->max_attempts, c->max_crashes,
    c->ttl, c->cooldown, c->on_exhausted, c->on_expire, c->ordered,
    c->max_items, c->max_bytes, c->overflow, c->keep_done,
    c->keep_done_bytes, c->keep_dead, NULL, NULL, NULL,
  };
  if (backoff) *backoff = c->backoff;
  if (dlq) strcpy(dlq, c->dlq);
  if (weights) *weights = c->weights;
  return 0;
}

static int run_pause(txn *t, op *o) {
  queue_op *p = (queue_op *)o;
  return engine_lmdb.queue_pause(t, p->q->name, p->paused);
}

int respool_queue_pause(respool_queue *q, int paused) {
  queue_op o = {.q = q, .paused = paused};
  int rc = queue_check(q);
  return rc ? rc : store_run(q->store, &o.op, run_pause, true);
}

int respool_queue_find(respool *s, const char *name, respool_queue **out) {
  int rc = store_check(s);
  if (!rc) rc = name_check(name, "queue name");
  if (rc) return rc;
  respool_queue *q = queue_new(s, name);
  queue_op o = {.q = q};
  if (!q) return fail(RESPOOL_NOMEM, "not enough memory for a queue");
  rc = store_read(s, &o.op, run_config);
  if (rc)
    respool_queue_free(q);
  else
    *out = q;
  return rc;
}

static int run_queue_stat(txn *t, op *o) {
  queue_op *p = (queue_op *)o;
  return engine_lmdb.queue_stat(t, p->q->name, p->now, &p->stats);
}

int respool_queue_stat(respool_queue *q, respool_queue_stats *out) {
  queue_op o = {.q = q};
  int rc = queue_check(q);
  if (!rc && out->size != sizeof *out) rc = invalid("size", "set by _INIT");
  if (rc) return rc;
  o.now = respool_now(q->store);
  rc = store_read(q->store, &o.op, run_queue_stat);
  if (rc) return rc;
  *out = o.stats;
  out->size = sizeof *out;
  return 0;
}

/* ---- looking ------------------------------------------------------------ */

typedef struct look_op {
  op op;
  respool_queue *q;
  int64_t now;
  uint64_t id;
  int state;
  size_t limit;
  respool_cursor at;
  respool_page *page;
} look_op;

static int run_peek(txn *t, op *o) {
  look_op *p = (look_op *)o;
  return engine_lmdb.peek(t, p->q->name, p->now, p->limit, p->page);
}

static int run_get(txn *t, op *o) {
  look_op *p = (look_op *)o;
  return engine_lmdb.get(t, p->q->name, p->now, p->id, p->page);
}

static int run_browse(txn *t, op *o) {
  look_op *p = (look_op *)o;
  return engine_lmdb.browse(t, p->q->name, p->now, p->state, p->limit,
                            &p->at, p->page);
}

/* Runs a read that fills a page. */
static int look(look_op *o, int (*run)(txn *t, op *o), respool_page **out) {
  int rc = queue_check(o->q);
  if (rc) return rc;
  o->page = malloc(sizeof *o->page);
  if (!o->page) return fail(RESPOOL_NOMEM, "not enough memory for a page");
  page_init(o->page);
  o->now = respool_now(o->q->store);
  rc = store_read(o->q->store, &o->op, run);
  if (rc)
    respool_page_free(o->page);
  else
    *out = o->page;
  return rc;
}

int respool_peek(respool_queue *q, size_t limit, respool_page **p) {
  look_op o = {.q = q, .limit = limit};
  return look(&o, run_peek, p);
}

int respool_get(respool_queue *q, uint64_t id, respool_page **p) {
  look_op o = {.q = q, .id = id};
  return look(&o, run_get, p);
}

int respool_browse(respool_queue *q, int state, size_t limit,
                   respool_cursor *at, respool_page **p) {
  look_op o = {.q = q, .state = state, .limit = limit, .at = *at};
  if (state < -1 || state > RESPOOL_RETRYING)
    return invalid("state", "of enum respool_state or -1");
  if (limit == 0) return invalid("limit", "at least 1");
  int rc = look(&o, run_browse, p);
  if (!rc) *at = o.at;
  return rc;
}

/* ---- removing ----------------------------------------------------------- */

typedef struct remove_op {
  op op;
  respool_queue *q;
  const char *name;
  uint64_t id, removed;
  const uint64_t *ids;
  size_t n;
  pace pace;
  bool more;
} remove_op;

static int run_remove(txn *t, op *o) {
  remove_op *p = (remove_op *)o;
  return engine_lmdb.remove(t, p->q->name, respool_now(p->q->store), p->id);
}

int respool_remove(respool_queue *q, uint64_t id) {
  remove_op o = {.q = q, .id = id};
  int rc = queue_check(q);
  return rc ? rc : store_run(q->store, &o.op, run_remove, true);
}

static int run_remove_many(txn *t, op *o) {
  remove_op *p = (remove_op *)o;
  int64_t now = respool_now(p->q->store);
  int rc = 0;
  p->removed = 0;
  for (size_t i = 0; i < p->n && !rc; i++) {
    rc = engine_lmdb.remove(t, p->q->name, now, p->ids[i]);
    if (!rc)
      p->removed++;
    else if (rc == RESPOOL_NOT_FOUND || rc == RESPOOL_BUSY)
      rc = 0; /* gone, or leased */
  }
  return rc;
}

int respool_remove_many(respool_queue *q, const uint64_t *ids, size_t n,
                        uint64_t *removed) {
  remove_op o = {.q = q, .ids = ids, .n = n};
  int rc = queue_check(q);
  if (!rc) rc = store_run(q->store, &o.op, run_remove_many, true);
  if (!rc) *removed = o.removed;
  return rc;
}

static int run_purge(txn *t, op *o) {
  remove_op *p = (remove_op *)o;
  return engine_lmdb.purge(t, p->q->name, respool_now(p->q->store),
                           p->pace.page, &p->removed, &p->more);
}

int respool_purge(respool_queue *q, uint64_t *removed) {
  uint64_t sum = 0;
  remove_op o = {.q = q, .pace = {PURGE_PAGE, PURGE_PAGE}};
  int rc = queue_check(q);
  for (bool more = true; more && !rc;) {
    rc = store_run(q->store, &o.op, run_purge, true);
    if (!rc) {
      sum += o.removed;
      more = o.more;
    }
    rc = pace_after(&o.pace, rc);
  }
  if (!rc && removed) *removed = sum;
  return rc;
}

static int run_forget(txn *t, op *o) {
  remove_op *p = (remove_op *)o;
  return engine_lmdb.queue_forget(t, p->name, (int)p->pace.page,
                                  &p->more);
}

static int run_drop(txn *t, op *o) {
  return engine_lmdb.queue_drop(t, ((remove_op *)o)->name);
}

static int run_exists(txn *t, op *o) {
  queue_config c;
  return engine_lmdb.queue_config(t, ((remove_op *)o)->name, &c);
}

int respool_queue_drop(respool *s, const char *name) {
  remove_op o = {.name = name, .pace = {PURGE_PAGE, PURGE_PAGE}};
  respool_queue q = {.store = s};
  int rc = store_check(s);
  if (!rc) rc = name_check(name, "queue name");
  if (!rc) rc = store_read(s, &o.op, run_exists);
  if (rc) return rc;
  strcpy(q.name, name);
  rc = respool_purge(&q, NULL);
  for (bool more = true; !rc && more;) {
    rc = store_run(s, &o.op, run_forget, true);
    if (!rc) more = o.more;
    rc = pace_after(&o.pace, rc);
  }
  return rc ? rc : store_run(s, &o.op, run_drop, true);
}

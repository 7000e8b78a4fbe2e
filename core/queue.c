/* SPDX-License-Identifier: MIT */
/*
 * The queue: its policy, pushing to it, looking at it, removing from it.
 */
#include "store.h"

#include <stdlib.h>
#include <string.h>

#define PUSH_MAX ((uint64_t)1 << 30) /* bytes in one push */
#define PURGE_PAGE 4096              /* items removed in one commit */
#define ROOM_POLL 50                 /* ms between looks for room */

/* ---- opening ------------------------------------------------------------ */

static bool in(int64_t v, int64_t low, int64_t high) {
  return v == RESPOOL_KEEP || (v >= low && v <= high);
}

static int weights_check(const respool_weights *w) {
  if (w->n > RESPOOL_WEIGHTS_MAX) return invalid("weights", "16 at most");
  for (size_t i = 0; i < w->n; i++) {
    if (w->of[i].lane < 0 || w->of[i].lane >= RESPOOL_LANES)
      return invalid("weights", "of lanes 0 to 255");
    if (w->of[i].weight < 1 || w->of[i].weight > 1000)
      return invalid("weights", "1 to 1000");
    for (size_t k = 0; k < i; k++)
      if (w->of[k].lane == w->of[i].lane)
        return invalid("weights", "given once a lane");
  }
  return 0;
}

static int policy_check(const respool_queue_options *o) {
  if (o->size != sizeof *o) return invalid("options.size", "set by _INIT");
  if (!in(o->lease, 1, LEASE_MAX))
    return invalid("lease", "1 ms to 7 days");
  if (!in(o->max_hold, 1, INT64_MAX)) return invalid("max_hold", "positive");
  if (!in(o->max_attempts, 1, INT64_MAX))
    return invalid("max_attempts", "at least 1");
  if (!in(o->max_crashes, 1, INT64_MAX))
    return invalid("max_crashes", "at least 1");
  if (!in(o->ttl, 0, INT64_MAX)) return invalid("ttl", "0 or more");
  if (!in(o->cooldown, 0, INT64_MAX)) return invalid("cooldown", "0 or more");
  if (!in(o->on_exhausted, 0, RESPOOL_FATE_COOLDOWN))
    return invalid("on_exhausted", "dead, drop or cooldown");
  if (!in(o->on_expire, 0, RESPOOL_FATE_DROP))
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
  if (!rc && o->box) rc = name_check(o->box, "box");
  return !rc && o->weights ? weights_check(o->weights) : rc;
}

typedef struct open_op {
  op op;
  const char *name;
  const respool_queue_options *options;
} open_op;

static int run_open(txn *t, op *o) {
  open_op *p = (open_op *)o;
  return engine_lmdb.queue_open(t, p->name, p->options);
}

static respool_queue *queue_new(respool *s, const char *name) {
  respool_queue *q = calloc(1, sizeof *q);
  if (!q) return NULL;
  q->store = s;
  q->refs = 1;
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
  rc = store_run(s, &p.op, run_open, true);
  if (rc)
    free(q);
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
  if (q && --q->refs == 0) free(q);
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
                         respool_backoff *backoff, char *box,
                         respool_weights *weights) {
  queue_op o = {.q = q};
  int rc = queue_check(q);
  if (!rc) rc = store_read(q->store, &o.op, run_config);
  if (rc) return rc;
  const queue_config *c = &o.config;
  *out = (respool_queue_options){
    sizeof *out, c->lease, c->max_hold, c->max_attempts, c->max_crashes,
    c->ttl, c->cooldown, c->on_exhausted, c->on_expire, c->ordered,
    c->max_items, c->max_bytes, c->overflow, c->keep_done,
    c->keep_done_bytes, c->keep_dead, NULL, NULL, NULL,
  };
  if (backoff) *backoff = c->backoff;
  if (box) strcpy(box, c->box);
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
    free(q);
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

/* ---- push --------------------------------------------------------------- */

static int unique_check(const respool_payload *items, size_t n,
                        const respool_push_options *o) {
  if (o->on_conflict < 0 || o->on_conflict > RESPOOL_CONFLICT_REPLACE)
    return invalid("on_conflict", "fail, ignore or replace");
  if (o->dedup < 0) return invalid("dedup", "0 or more");
  if (o->wait < 0) return invalid("wait", "0 or more");
  for (size_t i = 0; i < n; i++) {
    if (items[i].key.size > RESPOOL_NAME_MAX)
      return invalid("key", "1 to 255 bytes");
    if (items[i].key.size && n > 1)
      return invalid("items", "one when it has a key");
  }
  return 0;
}

int push_check(const respool *s, const respool_payload *items, size_t n,
               const respool_push_options *o) {
  uint64_t sum = 0;
  if (o->size != sizeof *o) return invalid("options.size", "set by _INIT");
  if (n == 0) return invalid("items", "at least one");
  if (o->lane < 0 || o->lane >= RESPOOL_LANES)
    return invalid("priority", "0 to 255");
  if (o->delay < 0) return invalid("delay", "0 or more");
  if (o->at < 0) return invalid("at", "a time since 1970");
  if (o->at && o->delay) return invalid("at", "given without delay");
  if (!in(o->ttl, 0, INT64_MAX)) return invalid("ttl", "0 or more");
  int rc = unique_check(items, n, o);
  if (rc) return rc;
  for (size_t i = 0; i < n; i++) {
    uint64_t size = items[i].body.size + items[i].headers.size;
    sum += size;
    if (size > s->max_item_bytes)
      return fail(RESPOOL_TOO_LARGE, "an item of %llu bytes is over "
                  "max_item_bytes, %llu", (unsigned long long)size,
                  (unsigned long long)s->max_item_bytes);
  }
  if (sum > PUSH_MAX && n > 1)
    return fail(RESPOOL_TOO_LARGE, "a push of %llu bytes is over 1 GiB",
                (unsigned long long)sum);
  return 0;
}

/* Room for the whole push at once, as far as its size can be told. */
static void expect_items(batch *b, const respool_payload *items, size_t n) {
  uint64_t sum = 0;
  for (size_t i = 0; i < n; i++)
    sum += items[i].body.size + items[i].headers.size;
  batch_expect(b, sum, n);
}

int push_batch(const respool *s, const respool_payload *items, size_t n,
               const respool_push_options *o, batch *b) {
  batch_init(b, o->version);
  int rc = push_check(s, items, n, o);
  if (rc) return rc;
  expect_items(b, items, n);
  for (size_t i = 0; i < n; i++) {
    item it = {.body = items[i].body, .headers = items[i].headers,
               .key = items[i].key};
    batch_add(b, &it);
  }
  rc = batch_end(b);
  return rc ? fail(rc, "not enough memory for a push") : 0;
}

append_req push_request(const respool *s, const batch *b,
                        const respool_payload *first,
                        const respool_push_options *o) {
  return (append_req){.batch = b, .lane = o->lane, .delay = o->delay,
                      .at = o->at, .ttl = o->ttl,
                      .max_store = s->max_bytes, .key = first->key,
                      .on_conflict = o->on_conflict, .dedup = o->dedup};
}

typedef struct push_op {
  op op;
  respool_queue *q;
  append_req req;
} push_op;

static int run_push(txn *t, op *o) {
  push_op *p = (push_op *)o;
  int rc = engine_lmdb.append(t, p->q->name, respool_now(p->q->store),
                              &p->req);
  o->relies = p->req.held || rc == RESPOOL_EXISTS;
  return rc;
}

/* Pushes again as room comes, until `wait` is over: whoever takes or settles
   makes some, and so may another process, looked for from time to time. */
static int push_waiting(push_op *p, int64_t wait) {
  respool *s = p->q->store;
  env *e = s->env;
  int64_t end = clock_mono();
  end = wait > INT64_MAX - end ? INT64_MAX : end + wait;
  for (;;) {
    uint64_t seen = commit_version(e);
    int rc = store_run(s, &p->op, run_push, true);
    int64_t left = end - clock_mono();
    if (rc != RESPOOL_FULL || wait == 0) return rc;
    if (left <= 0 || s->clock.manual)
      return fail(RESPOOL_TIMEOUT, "queue \"%.120s\" had no room in time",
                  p->q->name);
    commit_wait(e, seen, left < ROOM_POLL ? left : ROOM_POLL);
  }
}

int respool_push(respool_queue *q, const respool_payload *items, size_t n,
                 const respool_push_options *o, uint64_t *first) {
  static const respool_push_options defaults = RESPOOL_PUSH_OPTIONS_INIT;
  push_op p = {.q = q};
  batch b;
  if (!o) o = &defaults;
  int rc = queue_check(q);
  if (rc) return rc;
  rc = push_batch(q->store, items, n, o, &b);
  if (!rc) {
    p.req = push_request(q->store, &b, items, o);
    rc = push_waiting(&p, o->wait);
  }
  batch_free(&b);
  if (!rc && first) *first = p.req.first;
  if (!rc && o->held) *o->held = p.req.held;
  return rc;
}

/* A push by ticket: the operation, and what it stores. */
typedef struct push_ticket {
  push_op push;
  batch batch;
} push_ticket;

static int finish_push(respool_ticket *t, respool_result *out) {
  const push_ticket *p = (push_ticket *)t->op;
  out->first = p->push.req.first;
  out->held = p->push.req.held;
  return 0;
}

static void dispose_push(respool_ticket *t) {
  batch_free(&((push_ticket *)t->op)->batch);
}

static int start_push(respool_ticket *t, respool_queue *q,
                      const respool_payload *items, size_t n,
                      const respool_push_options *o) {
  push_ticket *p = (push_ticket *)t->op;
  t->dispose = dispose_push;
  t->finish = finish_push;
  p->push.q = q;
  int rc = push_batch(q->store, items, n, o, &p->batch);
  if (rc) return rc;
  p->push.req = push_request(q->store, &p->batch, items, o);
  rc = ticket_copy(t, &p->push.req.key);
  if (!rc) rc = ticket_pin(t, q);
  return rc ? rc : ticket_start(t, run_push, true);
}

int respool_push_start(respool_queue *q, const respool_payload *items,
                       size_t n, const respool_push_options *o,
                       respool_ticket **out) {
  static const respool_push_options defaults = RESPOOL_PUSH_OPTIONS_INIT;
  if (!o) o = &defaults;
  int rc = queue_check(q);
  if (!rc && o->wait) rc = invalid("wait", "0 with a ticket");
  if (rc) return rc;
  respool_ticket *t = ticket_new(q->store, sizeof(push_ticket));
  if (!t) return RESPOOL_NOMEM;
  rc = start_push(t, q, items, n, o);
  if (rc)
    ticket_drop(t);
  else
    *out = t;
  return rc;
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
  if (state < -1 || state > RESPOOL_WAITING)
    return invalid("state", "ready, leased, waiting or -1");
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
                           PURGE_PAGE, &p->removed, &p->more);
}

int respool_purge(respool_queue *q, uint64_t *removed) {
  uint64_t sum = 0;
  remove_op o = {.q = q};
  int rc = queue_check(q);
  while (!rc) {
    rc = store_run(q->store, &o.op, run_purge, true);
    if (rc) break;
    sum += o.removed;
    if (!o.more) break;
  }
  if (!rc && removed) *removed = sum;
  return rc;
}

static int run_forget(txn *t, op *o) {
  remove_op *p = (remove_op *)o;
  return engine_lmdb.queue_forget(t, p->name, PURGE_PAGE, &p->more);
}

static int run_drop(txn *t, op *o) {
  return engine_lmdb.queue_drop(t, ((remove_op *)o)->name);
}

static int run_exists(txn *t, op *o) {
  queue_config c;
  return engine_lmdb.queue_config(t, ((remove_op *)o)->name, &c);
}

int respool_queue_drop(respool *s, const char *name) {
  remove_op o = {.name = name};
  respool_queue q = {.store = s};
  int rc = store_check(s);
  if (!rc) rc = name_check(name, "queue name");
  if (!rc) rc = store_read(s, &o.op, run_exists);
  if (rc) return rc;
  strcpy(q.name, name);
  rc = respool_purge(&q, NULL);
  for (o.more = true; !rc && o.more;)
    rc = store_run(s, &o.op, run_forget, true);
  return rc ? rc : store_run(s, &o.op, run_drop, true);
}

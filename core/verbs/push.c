/* SPDX-License-Identifier: MIT */
/*
 * Pushing: what is checked, the batch that is stored, and the wait for room.
 */
#include "verbs/store.h"

#define PUSH_MAX ((uint64_t)1 << 30) /* bytes in one push */
#define ROOM_POLL 50 /* ms between looks for room */
#define ITEM_HEAD 1024 /* bytes more that an item may take when it is stored */

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

static int marks_check(const respool_payload *items, size_t n) {
  for (size_t i = 0; i < n; i++) {
    if (items[i].codec.size > RESPOOL_NAME_MAX)
      return invalid("codec", "at most 255 bytes");
    if (items[i].origin.queue.size > RESPOOL_NAME_MAX)
      return invalid("origin.queue", "at most 255 bytes");
  }
  return 0;
}

int push_check(const respool *s, const respool_payload *items, size_t n,
               const respool_push_options *o) {
  uint64_t sum = 0;
  if (o->size != sizeof *o) return invalid("options.size", "set by _INIT");
  if (n == 0) return invalid("items", "at least one");
  if (o->priority < 0 || o->priority >= RESPOOL_PRIORITIES)
    return invalid("priority", "0 to 255");
  if (o->delay < 0) return invalid("delay", "0 or more");
  if (o->at < 0) return invalid("at", "a time since 1970");
  if (o->at && o->delay) return invalid("at", "given without delay");
  if (o->ttl < 0 && o->ttl != RESPOOL_KEEP) return invalid("ttl", "0 or more");
  int rc = unique_check(items, n, o);
  if (!rc) rc = marks_check(items, n);
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
static void expect_items(builder *b, const respool_payload *items, size_t n) {
  uint64_t sum = 0;
  for (size_t i = 0; i < n; i++)
    sum += items[i].body.size + items[i].headers.size;
  builder_expect(b, sum, n);
}

int push_build(const respool *s, const respool_payload *items, size_t n,
               const respool_push_options *o, builder *b) {
  builder_init(b, o->version);
  int rc = push_check(s, items, n, o);
  if (rc) return rc;
  expect_items(b, items, n);
  for (size_t i = 0; i < n; i++) {
    item it = {.body = items[i].body, .headers = items[i].headers,
               .key = items[i].key, .codec = items[i].codec,
               .origin = items[i].origin};
    builder_add(b, &it);
  }
  rc = builder_end(b);
  return rc ? fail(rc, "not enough memory for a push") : 0;
}

append_req push_request(respool_queue *q, const builder *b,
                        const respool_payload *first,
                        const respool_push_options *o) {
  return (append_req){.builder = b, .priority = o->priority, .delay = o->delay,
                      .at = o->at, .ttl = o->ttl,
                      .max_store = q->store->max_bytes, .bound = &q->bound,
                      .notices = queue_notices(q),
                      .key = first->key,
                      .on_conflict = o->on_conflict, .dedup = o->dedup};
}

typedef struct push_op {
  op op;
  respool_queue *q;
  append_req req;
} push_op;

static int run_fits(txn *t, op *o) {
  push_op *p = (push_op *)o;
  return engine_lmdb.fits(t, p->q->name, &p->req);
}

/* Looks closely at an item that seems too large for the bound that this
   handle saw last; nearly all are let through at once. */
int push_fits(respool_queue *q, const respool_payload *it,
              const respool_push_options *o) {
  int64_t bound = q->bound;
  uint64_t size = it->body.size + it->headers.size + it->key.size;
  if (bound == RESPOOL_UNLIMITED ||
      (bound > ITEM_HEAD && size <= (uint64_t)bound - ITEM_HEAD))
    return 0;
  push_op p = {.q = q};
  builder b;
  int rc = push_build(q->store, it, 1, o, &b);
  p.req = push_request(q, &b, it, o);
  if (!rc) rc = store_read(q->store, &p.op, run_fits);
  builder_free(&b);
  return rc;
}

static int run_push(txn *t, op *o) {
  push_op *p = (push_op *)o;
  int rc = engine_lmdb.append(t, p->q->name, respool_now(p->q->store),
                              &p->req);
  o->relies = p->req.held || rc == RESPOOL_EXISTS;
  o->stands = rc == RESPOOL_FULL && p->req.only_ended; /* or it comes again */
  return rc;
}

/* Pushes again as room comes, until `wait` is over: whoever takes or settles
   makes some, and so may another process, looked for from time to time. For
   what can never have room nobody waits. */
static int push_waiting(push_op *p, int64_t wait) {
  respool *s = p->q->store;
  env *e = s->env;
  int64_t end = clock_mono();
  end = wait > INT64_MAX - end ? INT64_MAX : end + wait;
  for (;;) {
    uint64_t seen = commit_version(e);
    int rc = store_run(s, &p->op, run_push, true);
    int64_t left = end - clock_mono();
    if (rc != RESPOOL_FULL || wait == 0 || p->req.never) return rc;
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
  builder b;
  if (!o) o = &defaults;
  int rc = queue_check(q);
  if (rc) return rc;
  rc = push_build(q->store, items, n, o, &b);
  if (!rc) {
    p.req = push_request(q, &b, items, o);
    rc = push_waiting(&p, o->wait);
  }
  builder_free(&b);
  if (o->never) *o->never = rc == RESPOOL_FULL && p.req.never;
  if (!rc && first) *first = p.req.first;
  if (!rc && o->held) *o->held = p.req.held;
  return rc;
}

/* A push by ticket: the operation, and what it stores. */
typedef struct push_ticket {
  push_op push;
  builder builder;
} push_ticket;

static int finish_push(respool_ticket *t, respool_result *out) {
  const push_ticket *p = (push_ticket *)t->op;
  out->first = p->push.req.first;
  out->held = p->push.req.held;
  return 0;
}

static void explain_push(respool_ticket *t, respool_result *out) {
  const push_ticket *p = (push_ticket *)t->op;
  out->never = t->op->rc == RESPOOL_FULL && p->push.req.never;
}

static void dispose_push(respool_ticket *t) {
  builder_free(&((push_ticket *)t->op)->builder);
}

static int start_push(respool_ticket *t, respool_queue *q,
                      const respool_payload *items, size_t n,
                      const respool_push_options *o) {
  push_ticket *p = (push_ticket *)t->op;
  t->dispose = dispose_push;
  t->finish = finish_push;
  t->explain = explain_push;
  p->push.q = q;
  int rc = push_build(q->store, items, n, o, &p->builder);
  if (rc) return rc;
  p->push.req = push_request(q, &p->builder, items, o);
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

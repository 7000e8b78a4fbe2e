/* SPDX-License-Identifier: MIT */
/*
 * Pushing: checking, storing, and waiting for room.
 */
#include "verbs/produce/push.h"

#define PUSH_MAX ((uint64_t)1 << 30) /* bytes in one push */
#define ROOM_POLL 50 /* ms between looks for room */
#define ITEM_HEAD 1024 /* bytes more that an item may take when it is stored */

static const respool_push_options defaults = RESPOOL_PUSH_OPTIONS_INIT;

/* ---- checks ------------------------------------------------------------- */

static int options_check(const respool_push_options *o) {
  int rc = SIZE_CHECK(o, RESPOOL_PUSH_OPTIONS_INIT);
  if (rc) return rc;
  if (o->priority < 0 || o->priority >= RESPOOL_PRIORITIES)
    return invalid("priority", "0 to 255");
  if (o->delay < 0) return invalid("delay", "0 or more");
  if (o->at < 0) return invalid("at", "a time since 1970");
  if (o->at && o->delay) return invalid("at", "given without delay");
  if (o->ttl < 0 && o->ttl != RESPOOL_KEEP) return invalid("ttl", "0 or more");
  if (o->on_conflict < 0 || o->on_conflict > RESPOOL_CONFLICT_REPLACE)
    return invalid("on_conflict", "fail, ignore or replace");
  if (o->dedup < 0) return invalid("dedup", "0 or more");
  return o->wait < 0 ? invalid("wait", "0 or more") : 0;
}

static uint64_t size_of(const respool_payload *i) {
  return i->body.size + i->headers.size;
}

/* A body and nothing else, as most items are. */
static bool is_bare(const respool_payload *i) {
  return !(i->headers.size | i->key.size | i->partition.size | i->codec.size |
           i->origin.queue.size);
}

static int item_check(const respool *s, const respool_payload *i, size_t n) {
  if (size_of(i) > s->max_item_bytes)
    return fail(RESPOOL_TOO_LARGE, "an item of %llu bytes is over "
                "max_item_bytes, %llu", (unsigned long long)size_of(i),
                (unsigned long long)s->max_item_bytes);
  if (is_bare(i)) return 0;
  if (i->key.size > RESPOOL_NAME_MAX)
    return invalid("key", "1 to 255 bytes");
  if (i->partition.size > RESPOOL_NAME_MAX)
    return invalid("partition", "1 to 255 bytes");
  if (i->codec.size > RESPOOL_NAME_MAX)
    return invalid("codec", "at most 255 bytes");
  if (i->origin.queue.size > RESPOOL_NAME_MAX)
    return invalid("origin.queue", "at most 255 bytes");
  if (i->key.size && n > 1)
    return fail(RESPOOL_INVALID, "a push with a key holds one item");
  return 0;
}

/* In one pass over the items, which may not fit the processor's cache. */
static int items_check(const respool *s, const respool_payload *items,
                       size_t n, uint64_t *sum) {
  if (n == 0) return invalid("items", "at least one");
  int rc = 0;
  *sum = 0;
  for (size_t i = 0; i < n && !rc; i++) {
    rc = item_check(s, &items[i], n);
    *sum += size_of(&items[i]);
  }
  if (!rc && *sum > PUSH_MAX && n > 1)
    return fail(RESPOOL_TOO_LARGE, "a push of %llu bytes is over 1 GiB",
                (unsigned long long)*sum);
  return rc;
}

int push_check(const respool *s, const respool_payload *items, size_t n,
               const respool_push_options *o, uint64_t *sum) {
  int rc = options_check(o);
  return rc ? rc : items_check(s, items, n, sum);
}

/* ---- building ----------------------------------------------------------- */

static void add(builder *b, const respool_payload *p) {
  if (is_bare(p))
    builder_add_body(b, p->body);
  else
    builder_add(b, &(item){.body = p->body, .headers = p->headers,
                           .key = p->key, .codec = p->codec,
                           .origin = p->origin, .partition = p->partition});
}

int push_build(const respool *s, const respool_payload *items, size_t n,
               const respool_push_options *o, builder *b) {
  uint64_t sum;
  builder_init(b, o->version);
  int rc = push_check(s, items, n, o, &sum);
  if (rc) return rc;
  builder_expect(b, sum, n);
  for (size_t i = 0; i < n; i++) add(b, &items[i]);
  rc = builder_finish(b);
  return rc ? fail(rc, "not enough memory for a push") : 0;
}

step push_step(respool_queue *q, const builder *b, respool_bytes key,
               const respool_push_options *o) {
  return (step){
    .kind = STEP_APPEND, .name = q->name,
    .append = {.builder = b, .priority = o->priority, .delay = o->delay,
               .at = o->at, .ttl = o->ttl, .max_store = q->store->max_bytes,
               .bound = &q->bound, .no_journal = q->store->no_journal,
               .notices = queue_notices(q),
               .key = key, .on_conflict = o->on_conflict,
               .dedup = o->dedup}};
}

/* Looks closely at an item that seems too large for the bound that this
   handle saw last, and at the first of a partition, which not every queue
   takes; all others are let through at once. */
int push_fits(respool_queue *q, const respool_payload *it,
              const respool_push_options *o) {
  int64_t bound = q->bound;
  uint64_t size = it->body.size + it->headers.size + it->key.size;
  bool fits = bound == RESPOOL_UNLIMITED ||
              (bound > ITEM_HEAD && size <= (uint64_t)bound - ITEM_HEAD);
  if (fits && (q->parted || !it->partition.size)) return 0;
  builder b;
  int rc = push_build(q->store, it, 1, o, &b);
  step p = push_step(q, &b, it->key, o);
  query look = {.kind = QUERY_FITS, .name = q->name, .fits = &p.append};
  if (!rc) rc = store_look(q->store, &look);
  if (it->partition.size) q->parted = !rc;
  builder_free(&b);
  return rc;
}

/* ---- pushing ------------------------------------------------------------ */

/* Pushes again as room comes, until `wait` is over: whoever takes or settles
   makes some. A push that can never fit does not wait. */
static int push_waiting(respool_queue *q, step *p, int64_t wait) {
  respool *s = q->store;
  env *e = s->env;
  int64_t end = time_after(clock_mono(), wait);
  for (;;) {
    uint64_t seen = 0;
    int rc = wait ? e->engine->wait(e, q->name, WAIT_ITEMS, &seen, 0) : 0;
    if (!rc) rc = store_commit_step(s, p, true);
    int64_t left = end - clock_mono();
    if (rc != RESPOOL_FULL || wait == 0 || p->append.never_fits) return rc;
    if (left <= 0 || s->clock.manual)
      return fail(RESPOOL_TIMEOUT, "queue '%.120s' had no room in time",
                  q->name);
    rc = e->engine->wait(e, q->name, WAIT_ITEMS, &seen,
                         left < ROOM_POLL ? left : ROOM_POLL);
    if (rc) return rc;
  }
}

static void note_result(const append_req *r, int rc, respool_result *out) {
  if (rc)
    out->never_fits = rc == RESPOOL_FULL && r->never_fits;
  else {
    out->first = r->first;
    out->duplicate = r->duplicate;
  }
}

int respool_push(respool_queue *q, const respool_payload *items, size_t n,
                 const respool_push_options *o, respool_result *out) {
  builder b;
  step p;
  if (!o) o = &defaults;
  int rc = queue_check(q);
  if (!rc && out) rc = SIZE_CHECK(out, RESPOOL_RESULT_INIT);
  if (rc) return rc;
  rc = push_build(q->store, items, n, o, &b);
  if (!rc) {
    p = push_step(q, &b, items->key, o);
    rc = push_waiting(q, &p, o->wait);
    if (out) note_result(&p.append, rc, out);
  }
  builder_free(&b);
  return rc;
}

/* ---- by ticket ---------------------------------------------------------- */

typedef struct push_ticket {
  unit unit;
  step step;
  builder builder;
} push_ticket;

static void tell_push(respool_ticket *t, respool_result *out) {
  note_result(&((push_ticket *)t->unit)->step.append, t->unit->rc, out);
}

static int finish_push(respool_ticket *t, respool_result *out) {
  tell_push(t, out);
  return 0;
}

static void dispose_push(respool_ticket *t) {
  builder_free(&((push_ticket *)t->unit)->builder);
}

static int start_push(respool_ticket *t, respool_queue *q,
                      const respool_payload *items, size_t n,
                      const respool_push_options *o) {
  push_ticket *p = (push_ticket *)t->unit;
  t->dispose = dispose_push;
  t->finish = finish_push;
  t->explain = tell_push;
  int rc = push_build(q->store, items, n, o, &p->builder);
  if (rc) return rc;
  p->step = push_step(q, &p->builder, items->key, o);
  p->unit.steps = &p->step;
  p->unit.n = 1;
  p->unit.durable = true;
  rc = ticket_copy(t, &p->step.append.key);
  return rc ? rc : store_start(t);
}

int respool_push_start(respool_queue *q, const respool_payload *items,
                       size_t n, const respool_push_options *o,
                       respool_ticket **out) {
  if (!o) o = &defaults;
  int rc = queue_check(q);
  if (!rc && o->wait) rc = invalid("wait", "0 with a ticket");
  if (rc) return rc;
  respool_ticket *t = queue_ticket(q, sizeof(push_ticket));
  if (!t) return RESPOOL_NOMEM;
  return ticket_give(t, start_push(t, q, items, n, o), out);
}

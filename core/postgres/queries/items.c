/* SPDX-License-Identifier: MIT */
/*
 * Items that are alive; see items.h.
 */
#include "postgres/queries/items.h"

#include <stdlib.h>

#include "postgres/record/items.h"
#include "record/leases.h"

/* States by the time of the look. */
static int state_of(const taken *t, respool_bytes failures, int64_t now) {
  if (t->state == 0 || t->due <= now) return RESPOOL_READY;
  if (t->state == 1) return RESPOOL_LEASED;
  return t->attempts || t->crashes || failures.size ? RESPOOL_RETRYING
                                                    : RESPOOL_SCHEDULED;
}

/* What the items of a run share; `now` is INT64_MAX for those of the
   history. */
static respool_item_about about_of(const taken *t, respool_bytes failures,
                                   int64_t now) {
  respool_item_about a = taken_about(t, failures);
  a.visible_at = t->state ? t->due : 0;
  a.state = state_of(t, failures, now);
  if (now == INT64_MAX) {
    a.expires_at = 0;
    a.state = t->cancelled ? RESPOOL_CANCELLED : RESPOOL_FINISHED;
  } else if (a.state == RESPOOL_LEASED) {
    a.worker = token_worker(t->token);
    a.lease = t->token;
  }
  return a;
}

int look_add_run(looking *k, taken *t, uint32_t from, size_t limit,
                 int64_t now, uint32_t *next) {
  respool_page *p = k->q->look.page;
  damage bad = {NULL, 0, 0};
  respool_bytes failures = {NULL, 0};
  int rc = taken_own(&p->memory, t);
  if (!rc) rc = taken_failures(&p->memory, look_answer(k), t, &failures);
  respool_item_about about = about_of(t, failures, now);
  if (!rc && !items_read(p, t, from, limit, &about, &bad, next))
    rc = RESPOOL_NOMEM;
  for (size_t i = 0; i < bad.n && !rc; i++)
    if (!page_note_damaged(p, bad.of[i].id)) rc = RESPOOL_NOMEM;
  free(bad.of);
  return rc ? fail(rc, "not enough memory for a page") : 0;
}

int look_peek(looking *k) {
  int64_t now = pg_now(k->e, k->q->now);
  int rc = 0;
  values *v = look_ask(k, STATEMENT_PEEK);
  size_t limit = k->q->look.limit;
  put_int4(v, k->queue.id);
  plan_put_wall(&k->p, v);
  put_int4(v, limit > INT32_MAX ? INT32_MAX : (int64_t)limit);
  if (!limit) return 0;
  rc = look_run(k);
  for (int i = 0; !rc && i < look_rows(k); i++) {
    taken t;
    size_t n = k->q->look.page->n;
    if (n >= limit) break;
    if (taken_read(look_answer(k), i, &t))
      rc = look_add_run(k, &t, 0, limit - n, now, NULL);
  }
  return rc;
}

static int no_item(const looking *k) {
  if (k->q->look.key.size)
    return fail(RESPOOL_NOT_FOUND, "no item of queue '%.120s' holds this key",
                k->q->name);
  return fail(RESPOOL_NOT_FOUND, "there is no item %llu in queue '%.120s'",
              (unsigned long long)k->q->look.id, k->q->name);
}

int look_get(looking *k) {
  look_req *r = &k->q->look;
  taken t;
  values *v = look_ask(k, r->key.size ? STATEMENT_GET_KEY : STATEMENT_GET);
  put_int4(v, k->queue.id);
  if (r->key.size)
    put_bytes(v, r->key);
  else
    put_int8(v, (int64_t)r->id);
  int rc = look_run(k);
  if (rc) return rc;
  if (!look_rows(k) || !taken_read(look_answer(k), 0, &t)) return no_item(k);
  if (r->key.size) r->id = t.first;
  int64_t now = pg_now(k->e, k->q->now);
  if (t.state != 1 && t.expires_at && t.expires_at <= now) return no_item(k);
  rc = look_add_run(k, &t, (uint32_t)(r->id - t.first), 1, now, NULL);
  if (rc) return rc;
  if (r->page->n && r->page->items[0].id == r->id) return 0;
  return fail(RESPOOL_CORRUPT, "item %llu of queue '%.120s' is damaged",
              (unsigned long long)r->id, k->q->name);
}

enum { BROWSE_BEGIN, BROWSE_ON, BROWSE_END };

/* Where the next look begins: behind the last run, or within it. The place of a
   run is its `fresh`. */
static void advance(respool_cursor *at, const taken *t, uint32_t next) {
  at->phase = BROWSE_ON;
  at->priority = t->priority;
  at->space = t->place;
  at->at = t->due;
  at->id = t->first + next;
}

static bool is_expired(const taken *t, int64_t now) {
  return t->expires_at && t->expires_at <= now &&
         !(t->state == 1 && t->due > now);
}

/* The items of one answer; `*passed` when all of it was looked at. */
static int browse_rows(looking *k, bool *passed) {
  look_req *r = &k->q->look;
  respool_cursor *at = &r->cursor;
  int64_t now = pg_now(k->e, k->q->now);
  int rc = 0;
  *passed = true;
  for (int i = 0; !rc && i < look_rows(k); i++) {
    taken t;
    uint32_t next;
    if (r->page->n == r->limit) {
      *passed = false;
      return 0;
    }
    if (!taken_read(look_answer(k), i, &t)) continue;
    next = t.n;
    bool here = at->phase == BROWSE_ON && at->priority == t.priority &&
                at->space == t.place && at->at == t.due &&
                at->id > t.first;
    if (!is_expired(&t, now))
      rc = look_add_run(k, &t, here ? (uint32_t)(at->id - t.first) : 0,
                        r->limit - r->page->n, now, &next);
    advance(at, &t, next);
  }
  return rc;
}

int look_browse(looking *k) {
  look_req *r = &k->q->look;
  respool_cursor *at = &r->cursor;
  bool begin = at->phase == BROWSE_BEGIN, passed = true;
  if (at->phase == BROWSE_END) return 0;
  values *v = look_ask(k, STATEMENT_BROWSE);
  put_int4(v, k->queue.id);
  plan_put_wall(&k->p, v);
  put_int4(v, r->state);
  put_int4(v, (int64_t)r->limit);
  put_int2(v, begin ? RESPOOL_PRIORITIES : at->priority);
  put_int2(v, begin ? 0 : at->space);
  put_int8(v, begin ? 0 : at->at);
  put_int8(v, begin ? 0 : (int64_t)at->id);
  int rc = look_run(k);
  if (rc) return rc;
  bool any = look_rows(k) > 0;
  rc = browse_rows(k, &passed);
  if (!any) at->phase = BROWSE_END;
  return rc;
}

int look_leases(looking *k) {
  values *v = look_ask(k, STATEMENT_LEASES);
  put_int4(v, k->queue.id);
  plan_put_wall(&k->p, v);
  int rc = look_run(k);
  for (int i = 0; !rc && i < look_rows(k); i++) {
    const PGresult *r = look_answer(k);
    lease_found f = {{.first = (uint64_t)value_int(r, i, 0),
                      .last = (uint64_t)value_int(r, i, 1)},
                     (uint64_t)value_int(r, i, 2),
                     (uint64_t)value_int(r, i, 3), value_int(r, i, 4)};
    if (!leases_add(k->q->leases, &f))
      rc = fail(RESPOOL_NOMEM, "not enough memory for leases");
  }
  return rc;
}

int look_held(looking *k) {
  values *v = look_ask(k, STATEMENT_HELD);
  put_int4(v, k->queue.id);
  put_int8(v, (int64_t)k->q->held.id);
  put_int8(v, (int64_t)k->q->held.token);
  int rc = look_run(k);
  if (!rc) k->q->held.yes = value_bool(look_answer(k), 0, 0);
  return rc;
}

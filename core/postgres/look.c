/* SPDX-License-Identifier: MIT */
/*
 * Queries; see look.h. Each is one statement, so one snapshot. The id of a
 * queue is remembered; where nothing is found under it it is looked up again.
 */
#include "postgres/look.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "policy/flow.h"
#include "postgres/check.h"
#include "postgres/queue/append.h"
#include "postgres/queue/records.h"
#include "postgres/record/items.h"
#include "record/dead/group.h"
#include "record/dead/record.h"

/* A query on its way. */
typedef struct looking {
  pg_env *e;
  session *l;
  query *q;
  pg_queue queue;
  plan p;
} looking;

static const PGresult *answer(const looking *k) {
  return plan_answer(&k->p, 0);
}

static values *ask(looking *k, enum statement s) {
  return plan_add(&k->p, s, NULL);
}

static int run(looking *k) {
  return plan_run(&k->p, false);
}

static int rows(const looking *k) {
  return pq.ntuples(answer(k));
}

/* ---- items -------------------------------------------------------------- */

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

/* Adds the items of a run from `from` of its n on; `*next` as items_read. */
static int add_run(looking *k, taken *t, uint32_t from, size_t limit,
                   int64_t now, uint32_t *next) {
  respool_page *p = k->q->look.page;
  damage bad = {NULL, 0, 0};
  respool_bytes failures = {NULL, 0};
  int rc = taken_own(&p->memory, t);
  if (!rc) rc = taken_failures(&p->memory, answer(k), t, &failures);
  respool_item_about about = about_of(t, failures, now);
  if (!rc && !items_read(p, t, from, limit, &about, &bad, next))
    rc = RESPOOL_NOMEM;
  for (size_t i = 0; i < bad.n && !rc; i++)
    if (!page_note_damaged(p, bad.of[i].id)) rc = RESPOOL_NOMEM;
  free(bad.of);
  return rc ? fail(rc, "not enough memory for a page") : 0;
}

static int peek(looking *k) {
  int64_t now = pg_now(k->e, k->q->now);
  int rc = 0;
  values *v = ask(k, STATEMENT_PEEK);
  size_t limit = k->q->look.limit;
  put_int4(v, k->queue.id);
  plan_put_wall(&k->p, v);
  put_int4(v, limit > INT32_MAX ? INT32_MAX : (int64_t)limit);
  if (!limit) return 0;
  rc = run(k);
  for (int i = 0; !rc && i < rows(k); i++) {
    taken t;
    size_t n = k->q->look.page->n;
    if (n >= limit) break;
    if (taken_read(answer(k), i, &t))
      rc = add_run(k, &t, 0, limit - n, now, NULL);
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

static int get(looking *k) {
  look_req *r = &k->q->look;
  taken t;
  values *v = ask(k, r->key.size ? STATEMENT_GET_KEY : STATEMENT_GET);
  put_int4(v, k->queue.id);
  if (r->key.size)
    put_bytes(v, r->key);
  else
    put_int8(v, (int64_t)r->id);
  int rc = run(k);
  if (rc) return rc;
  if (!rows(k) || !taken_read(answer(k), 0, &t)) return no_item(k);
  if (r->key.size) r->id = t.first;
  int64_t now = pg_now(k->e, k->q->now);
  if (t.state != 1 && t.expires_at && t.expires_at <= now) return no_item(k);
  rc = add_run(k, &t, (uint32_t)(r->id - t.first), 1, now, NULL);
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
  for (int i = 0; !rc && i < rows(k); i++) {
    taken t;
    uint32_t next;
    if (r->page->n == r->limit) {
      *passed = false;
      return 0;
    }
    if (!taken_read(answer(k), i, &t)) continue;
    next = t.n;
    bool here = at->phase == BROWSE_ON && at->priority == t.priority &&
                at->space == t.place && at->at == t.due &&
                at->id > t.first;
    if (!is_expired(&t, now))
      rc = add_run(k, &t, here ? (uint32_t)(at->id - t.first) : 0,
                   r->limit - r->page->n, now, &next);
    advance(at, &t, next);
  }
  return rc;
}

static int browse(looking *k) {
  look_req *r = &k->q->look;
  respool_cursor *at = &r->cursor;
  bool begin = at->phase == BROWSE_BEGIN, passed = true;
  if (at->phase == BROWSE_END) return 0;
  values *v = ask(k, STATEMENT_BROWSE);
  put_int4(v, k->queue.id);
  plan_put_wall(&k->p, v);
  put_int4(v, r->state);
  put_int4(v, (int64_t)r->limit);
  put_int2(v, begin ? RESPOOL_PRIORITIES : at->priority);
  put_int2(v, begin ? 0 : at->space);
  put_int8(v, begin ? 0 : at->at);
  put_int8(v, begin ? 0 : (int64_t)at->id);
  int rc = run(k);
  if (rc) return rc;
  bool any = rows(k) > 0;
  rc = browse_rows(k, &passed);
  if (!any) at->phase = BROWSE_END;
  return rc;
}

/* ---- leases ------------------------------------------------------------- */

static int find_leases(looking *k) {
  values *v = ask(k, STATEMENT_LEASES);
  put_int4(v, k->queue.id);
  plan_put_wall(&k->p, v);
  int rc = run(k);
  for (int i = 0; !rc && i < rows(k); i++) {
    const PGresult *r = answer(k);
    lease_found f = {{.first = (uint64_t)value_int(r, i, 0),
                      .last = (uint64_t)value_int(r, i, 1)},
                     (uint64_t)value_int(r, i, 2),
                     (uint64_t)value_int(r, i, 3), value_int(r, i, 4)};
    if (!leases_add(k->q->leases, &f))
      rc = fail(RESPOOL_NOMEM, "not enough memory for leases");
  }
  return rc;
}

static int is_held(looking *k) {
  values *v = ask(k, STATEMENT_HELD);
  put_int4(v, k->queue.id);
  put_int8(v, (int64_t)k->q->held.id);
  put_int8(v, (int64_t)k->q->held.token);
  int rc = run(k);
  if (!rc) k->q->held.yes = value_bool(answer(k), 0, 0);
  return rc;
}

/* ---- history ------------------------------------------------------------ */

static int history(looking *k) {
  look_req *r = &k->q->look;
  respool_history_cursor *at = &r->moment;
  values *v = ask(k, STATEMENT_HISTORY);
  put_int4(v, k->queue.id);
  put_int8(v, at->at);
  put_int8(v, (int64_t)at->id);
  put_int4(v, (int64_t)r->limit);
  int rc = run(k);
  for (int i = 0; !rc && i < rows(k) && r->page->n < r->limit; i++) {
    taken t;
    uint32_t next;
    taken_read_finished(answer(k), i, &t);
    bool here = t.due == at->at && at->id > t.first;
    rc = add_run(k, &t, here ? (uint32_t)(at->id - t.first) : 0,
                 r->limit - r->page->n, INT64_MAX, &next);
    *at = (respool_history_cursor){t.due, t.first + next};
  }
  return rc;
}

static int result_of(looking *k) {
  look_req *r = &k->q->look;
  values *v = ask(k, STATEMENT_RESULT);
  put_int4(v, k->queue.id);
  put_int8(v, (int64_t)r->id);
  int rc = run(k);
  if (rc) return rc;
  if (!rows(k))
    return fail(RESPOOL_NOT_FOUND, "queue '%.120s' keeps no finished item %llu",
                k->q->name, (unsigned long long)r->id);
  respool_item *out = page_add(r->page, (respool_bytes){NULL, 0});
  if (!out) return fail(RESPOOL_NOMEM, "not enough memory for a result");
  out->id = r->id;
  out->about = page_about(r->page, &(respool_item_about){
    .visible_at = value_int(answer(k), 0, 0)});
  if (!out->about) return fail(RESPOOL_NOMEM, "not enough memory for a result");
  return arena_copy(&r->page->memory, value_bytes(answer(k), 0, 1), &out->body);
}

/* ---- dead letters ------------------------------------------------------- */

static int add_dead(respool_dead_letters *out, const char *dlq,
                    uint64_t number, respool_bytes stored, bool no_body) {
  dead l;
  unpacker u;
  item i;
  blob_ref ref;
  respool_dead_letter *r = dead_letters_add(out);
  if (!r) return RESPOOL_NOMEM;
  int rc = dead_show(&out->memory, phrase_of(dlq), stored, r, &l);
  r->number = number;
  if (rc || r->damaged) return rc;
  if (!no_body) rc = arena_copy(&out->memory, l.item, &l.item);
  if (rc) return rc;
  unpacker_init(&u, l.item.data, l.item.size);
  bool whole = item_unpack(&u, &i, &ref) && !ref.number;
  dead_show_item(r, whole ? &i : NULL, l.item);
  return no_body ? dead_keep_marks(&out->memory, r) : 0;
}

static int dead_list(looking *k) {
  const respool_list_options *o = k->q->dead_list.options;
  if (o->descending && o->after == 1) return 0;
  values *v = ask(k, STATEMENT_DEAD_LIST);
  put_text(v, k->q->name);
  put_int8(v, (int64_t)o->after);
  put_int8(v, (int64_t)o->upto);
  put_int8(v, (int64_t)(o->limit ? o->limit : 100));
  put_bool(v, o->descending);
  put_bytes(v, o->group);
  put_int8(v, (int64_t)o->bytes);
  int rc = run(k);
  for (int i = 0; !rc && i < rows(k); i++)
    rc = add_dead(k->q->dead_list.out, k->q->name,
                  (uint64_t)value_int(answer(k), i, 0),
                  value_bytes(answer(k), i, 1), o->no_body);
  return rc == RESPOOL_NOMEM ? fail(rc, "not enough memory") : rc;
}

/* The group and reason that the rows from `*i` on are of, one an hour; moves
   `*i` behind them. */
static respool_dead_group read_group(looking *k, int *i) {
  respool_dead_group g = {.group = value_bytes(answer(k), *i, 0),
                          .reason = value_bytes(answer(k), *i, 1)};
  while (*i < rows(k) && phrase_same(value_bytes(answer(k), *i, 0), g.group) &&
         phrase_same(value_bytes(answer(k), *i, 1), g.reason)) {
    dead_group_add(&g, (uint64_t)value_int(answer(k), *i, 3),
                   (uint64_t)value_int(answer(k), *i, 4),
                   value_int(answer(k), *i, 2));
    dead_group_died(&g, value_int(answer(k), *i, 5),
                    value_int(answer(k), *i, 6));
    ++*i;
  }
  return g;
}

static int dead_groups(looking *k) {
  values *v = ask(k, STATEMENT_DEAD_GROUPS);
  put_text(v, k->q->name);
  plan_put_wall(&k->p, v);
  int rc = run(k);
  for (int i = 0; !rc && i < rows(k);) {
    respool_dead_group g = read_group(k, &i);
    dead_group_pack(k->q->texts, &g);
  }
  return rc;
}

static int number(looking *k, enum statement s, bool named) {
  values *v = ask(k, s);
  if (named) put_text(v, k->q->name);
  int rc = run(k);
  if (!rc) k->q->number = (uint64_t)value_int(answer(k), 0, 0);
  return rc;
}

static int entries(looking *k) {
  packer *out = k->q->entries.out;
  values *v = ask(k, STATEMENT_ENTRIES);
  put_int2(v, k->q->entries.kind);
  if (k->q->name)
    put_text(v, k->q->name);
  else
    put_null(v);
  int rc = run(k);
  for (int i = 0; !rc && i < rows(k); i++) {
    respool_bytes b = value_bytes(answer(k), i, 2);
    pack_array(out, 3);
    pack_phrase(out, value_bytes(answer(k), i, 0));
    pack_uint(out, (uint64_t)value_int(answer(k), i, 1));
    pack_bytes(out, b.data, b.size);
  }
  k->q->entries.now = pg_now(k->e, k->q->now);
  return rc ? rc : out->rc;
}

static int note(looking *k) {
  put_text(ask(k, STATEMENT_NOTE_LOAD), k->q->name);
  int rc = run(k);
  if (rc) return rc;
  if (!rows(k) || value_null(answer(k), 0, 0))
    return fail(RESPOOL_NOT_FOUND, "there is no note '%.160s'", k->q->name);
  respool_bytes b = value_bytes(answer(k), 0, 0);
  pack_raw(k->q->texts, b.data, b.size);
  return k->q->texts->rc;
}

/* ---- names and figures -------------------------------------------------- */

static int names(looking *k) {
  put_int4(ask(k, STATEMENT_NAMES), k->q->kind - QUERY_QUEUES);
  int rc = run(k);
  if (rc) return rc;
  pack_array(k->q->texts, (size_t)rows(k));
  for (int i = 0; i < rows(k); i++)
    pack_phrase(k->q->texts, value_bytes(answer(k), i, 0));
  return 0;
}

static void read_numbers(const PGresult *r, int column, uint64_t *to,
                         size_t n) {
  size_t have = value_count(r, 0, column);
  for (size_t i = 0; i < n; i++)
    to[i] = i < have ? (uint64_t)value_element(r, 0, column, i) : 0;
}

static void read_histogram(const PGresult *r, int column,
                           respool_histogram *h) {
  uint64_t n[2 + RESPOOL_BUCKETS];
  read_numbers(r, column, n, 2 + RESPOOL_BUCKETS);
  h->count = n[0];
  h->sum = n[1];
  memcpy(h->buckets, n + 2, sizeof h->buckets);
}

/* The columns of v1_stat that are numbers of their own, in their order. */
#define FIGURES(X) \
  X(ready) X(leased) X(scheduled) X(retrying) X(dead) X(dead_bytes) \
  X(dead_dropped) X(bytes) X(oldest) \
  X(next_due) X(pushed) X(done) X(died) X(expired) X(removed) X(dropped) \
  X(delivered) X(retried) X(released) X(snoozed) X(crashed) X(lease_lost) \
  X(damaged) X(kept) X(kept_bytes) X(pushed_bytes) X(delivered_bytes)

static int queue_stat(looking *k) {
  respool_queue_stats *out = k->q->queue_stat;
  values *v = ask(k, STATEMENT_STAT);
  put_int4(v, k->queue.id);
  plan_put_wall(&k->p, v);
  int rc = run(k);
  if (rc) return rc;
  const PGresult *r = answer(k);
  if (!rows(k)) return no_queue(k->q->name);
  memset(out, 0, sizeof *out);
  out->paused = value_bool(r, 0, 1);
  int column = 3;
#define READ(f) out->f = (__typeof__(out->f))value_int(r, 0, column++);
  FIGURES(READ)
#undef READ
  read_numbers(r, column++, out->flushes, RESPOOL_FLUSH_REASONS);
  read_numbers(r, column++, out->died_by, RESPOOL_DEATHS);
  read_histogram(r, column++, &out->wait);
  read_histogram(r, column++, &out->handle);
  out->partitions = (uint64_t)value_int(r, 0, column);
  return 0;
}

static int store_stat(looking *k) {
  respool_store_stats *out = k->q->store_stat;
  ask(k, STATEMENT_STORE);
  int rc = run(k);
  if (rc) return rc;
  respool_bytes id = value_bytes(answer(k), 0, 0);
  size_t n = id.size < sizeof out->id ? id.size : sizeof out->id - 1;
  if (n) memcpy(out->id, id.data, n);
  out->id[n] = '\0';
  out->file_bytes = out->used_bytes = (uint64_t)value_int(answer(k), 0, 1);
  out->last_txn = (uint64_t)value_int(answer(k), 0, 2);
  out->available_bytes = RESPOOL_UNLIMITED;
  pthread_mutex_lock(&k->e->lock);
  out->commits = k->e->took;
  out->commit_operations = k->e->operations;
  pthread_mutex_unlock(&k->e->lock);
  return 0;
}

/* ---- queries ------------------------------------------------------------ */

static int agrees(looking *k) {
  queue_config wanted = k->queue.config;
  config_apply(&wanted, k->q->agrees.options);
  k->q->agrees.yes = config_equal(&k->queue.config, &wanted);
  return 0;
}

/* Columns of v1_flow. */
enum { F_HELD_UNTIL, F_HELD_FOR, F_LEVEL, F_LEVEL_AT, F_BREAKER, F_UNTIL,
       F_IN_ROW, F_OUTAGES, F_OPENED, F_OPENED_AT, F_CLOSED_AT, F_PROBES,
       F_ERROR };

static void read_text(const PGresult *r, int row, int column,
                      char to[RESPOOL_REASON_MAX + 1]) {
  respool_bytes b = phrase_cut(value_bytes(r, row, column),
                               RESPOOL_REASON_MAX);
  memcpy(to, b.size ? b.data : "", b.size);
  to[b.size] = '\0';
}

static void read_opening(const PGresult *r, int row, respool_opening *out) {
  out->opened_at = value_int(r, row, F_OPENED_AT);
  out->closed_at = value_int(r, row, F_CLOSED_AT);
  out->probes = (uint64_t)value_int(r, row, F_PROBES);
  read_text(r, row, F_ERROR, out->error);
}

static void read_flow(const PGresult *r, flow *f) {
  *f = (flow){.held_until = value_int(r, 0, F_HELD_UNTIL),
              .level = value_int(r, 0, F_LEVEL),
              .level_at = value_int(r, 0, F_LEVEL_AT),
              .breaker = (int)value_int(r, 0, F_BREAKER),
              .until = value_int(r, 0, F_UNTIL),
              .n_row = (size_t)value_int(r, 0, F_IN_ROW),
              .outages = (uint64_t)value_int(r, 0, F_OUTAGES),
              .opened = (uint64_t)value_int(r, 0, F_OPENED)};
  read_text(r, 0, F_HELD_FOR, f->why);
  for (int i = 0; i < pq.ntuples(r) && i < RESPOOL_OPENINGS; i++)
    if (!value_null(r, i, F_OPENED_AT))
      read_opening(r, i, &f->openings[f->n_openings++]);
}

static int flow_stat(looking *k) {
  flow f;
  put_int4(ask(k, STATEMENT_FLOW), k->queue.id);
  int rc = run(k);
  if (rc) return rc;
  if (!rows(k)) return no_queue(k->q->name);
  read_flow(answer(k), &f);
  flow_tell(&f, &k->queue.config, pg_now(k->e, k->q->now), k->q->flow);
  return 0;
}

/* Columns of v1_partitions. */
enum { P_NAME, P_READY, P_LEASED, P_WAITING, P_HELD_UNTIL, P_HELD_FOR, P_LEVEL,
       P_LEVEL_AT, P_BREAKER, P_UNTIL, P_IN_ROW, P_OUTAGES, P_OPENED };

static void tell_partition(looking *k, const queue_config *c, int row) {
  const PGresult *r = answer(k);
  respool_bytes name = value_bytes(r, row, P_NAME);
  packer *out = k->q->partitions.out;
  respool_flow told;
  flow f = {.held_until = value_int(r, row, P_HELD_UNTIL),
            .level = value_int(r, row, P_LEVEL),
            .level_at = value_int(r, row, P_LEVEL_AT),
            .breaker = (int)value_int(r, row, P_BREAKER),
            .until = value_int(r, row, P_UNTIL),
            .n_row = (size_t)value_int(r, row, P_IN_ROW),
            .outages = (uint64_t)value_int(r, row, P_OUTAGES),
            .opened = (uint64_t)value_int(r, row, P_OPENED)};
  read_text(r, row, P_HELD_FOR, f.why);
  flow_tell(&f, c, pg_now(k->e, k->q->now), &told);
  pack_array(out, 12);
  pack_bytes(out, name.data, name.size);
  for (int i = P_READY; i <= P_WAITING; i++)
    pack_uint(out, (uint64_t)value_int(r, row, i));
  pack_int(out, told.held_until);
  pack_bytes(out, told.held_for, strlen(told.held_for));
  pack_int(out, told.allowed);
  pack_int(out, told.allowed_at);
  pack_int(out, told.breaker);
  pack_int(out, told.breaker_until);
  pack_uint(out, told.outages);
  pack_uint(out, told.opened);
}

static int partitions(looking *k) {
  const respool_partitions_options *o = k->q->partitions.options;
  queue_config each;
  bool largest = o->order == RESPOOL_PARTITIONS_BY_SIZE;
  values *v = ask(k, STATEMENT_PARTITIONS);
  put_int4(v, k->queue.id);
  plan_put_wall(&k->p, v);
  put_bool(v, largest);
  put_bytes(v, o->after.size && !largest ? o->after : (respool_bytes){"", 0});
  put_int4(v, (int64_t)o->limit);
  int rc = run(k);
  config_of_partition(&each, &k->queue.config);
  for (int i = 0; !rc && i < rows(k); i++) tell_partition(k, &each, i);
  return rc ? rc : k->q->partitions.out->rc;
}

static int look_at_queue(looking *k) {
  switch (k->q->kind) {
    case QUERY_AGREES: return agrees(k);
    case QUERY_POLICY: *k->q->policy = k->queue.config; return 0;
    case QUERY_FITS: return append_fits(&k->queue, k->q->name, k->q->fits);
    case QUERY_QUEUE_STAT: return queue_stat(k);
    case QUERY_FLOW: return flow_stat(k);
    case QUERY_PARTITIONS: return partitions(k);
    case QUERY_PEEK: return peek(k);
    case QUERY_GET: return get(k);
    case QUERY_BROWSE: return browse(k);
    case QUERY_RESULT: return result_of(k);
    case QUERY_LEASES: return find_leases(k);
    case QUERY_HELD: return is_held(k);
    default: return history(k);
  }
}

static int look_at_store(looking *k) {
  switch (k->q->kind) {
    case QUERY_DEAD_LIST: return dead_list(k);
    case QUERY_DEAD_COUNT: return number(k, STATEMENT_DEAD_COUNT, true);
    case QUERY_DEAD_GROUPS: return dead_groups(k);
    case QUERY_REPLAY:
      return pg_replay_load(k->e, k->l, k->q->name, k->q->replay);
    case QUERY_ENTRIES: return entries(k);
    case QUERY_NOTE: return note(k);
    case QUERY_NOTES:
    case QUERY_QUEUES:
    case QUERY_DLQS:
    case QUERY_REPLAYS: return names(k);
    case QUERY_PROBE: return number(k, STATEMENT_PROBE_READ, false);
    case QUERY_STORE_STAT: return store_stat(k);
    case QUERY_CHECK: return pg_check(k->e, k->l, k->q->texts);
    default: return fail(RESPOOL_INVALID, "a query of an unknown kind");
  }
}

static bool is_of_queue(const query *q) {
  return q->kind <= QUERY_HELD;
}

/* A policy is looked up each time, as others change it; and so is the queue
   where another may have its name by now. */
static bool needs_fresh(const query *q) {
  return q->kind == QUERY_AGREES || q->kind == QUERY_POLICY ||
         q->kind == QUERY_FITS || q->kind == QUERY_FLOW ||
         q->kind == QUERY_PARTITIONS ||
         q->kind == QUERY_GET ||
         q->kind == QUERY_HISTORY || q->kind == QUERY_BROWSE ||
         q->kind == QUERY_RESULT ||
         q->kind == QUERY_LEASES || q->kind == QUERY_HELD;
}

static int look(looking *k, bool fresh) {
  int rc = 0;
  plan_init(&k->p, k->e, k->l);
  k->p.now = k->q->now;
  if (is_of_queue(k->q))
    rc = fresh ? known_load(k->e, k->l, k->q->name, &k->queue)
               : known_find(k->e, k->l, k->q->name, &k->queue);
  if (!rc) rc = is_of_queue(k->q) ? look_at_queue(k) : look_at_store(k);
  plan_free(&k->p);
  return rc;
}

int pg_look(env *base, query *q) {
  pg_env *e = (pg_env *)base;
  looking k = {.e = e, .q = q};
  if (q->kind == QUERY_OUTLOOK) { /* a take costs no more than a look */
    q->outlook.ready = true;
    return 0;
  }
  if (q->kind == QUERY_QUEUE_STAT && !e->read_only) known_tell(e);
  k.l = pg_session_take(e);
  if (!k.l) return fail(RESPOOL_NOMEM, "not enough memory");
  bool fresh = needs_fresh(q);
  int rc = look(&k, fresh);
  if (rc == RESPOOL_NOT_FOUND && is_of_queue(q) && !fresh) rc = look(&k, true);
  pg_session_give(e, k.l);
  return rc;
}

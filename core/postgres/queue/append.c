/* SPDX-License-Identifier: MIT */
/*
 * Pushing; see append.h. The server refuses what a queue has no room for and
 * says how much room there is; which items then die is worked out here.
 */
#include "postgres/queue/append.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "postgres/env/bells.h"
#include "postgres/record/run.h"
#include "record/dead/record.h"

void append_begin(appending *a, const char *name, append_req **of) {
  memset(a, 0, sizeof *a);
  a->name = name;
  a->of = of;
  a->n = 1;
  a->items = (*of)->builder->n_items;
  a->fit = (*of)->dead ? 0 : a->items;
  a->push = a->dead = NO_REQUEST;
}

void append_join(appending *a, append_req *r) {
  a->of[a->n++] = r;
  a->items += r->builder->n_items;
  a->fit = a->items;
}

bool append_alike(const append_req *a, const append_req *b) {
  return a->priority == b->priority && a->delay == b->delay &&
         a->at == b->at && a->ttl == b->ttl &&
         a->builder->version == b->builder->version && !a->attempts &&
         !b->attempts && !a->memo.size && !b->memo.size && !a->key.size &&
         !b->key.size && !a->reason && !b->reason && !a->owner && !b->owner &&
         !a->dead && !b->dead;
}

/* ---- sizes -------------------------------------------------------------- */

static uint64_t largest(const builder *b) {
  builder_cursor c = {0};
  respool_bytes packed;
  uint64_t most = 0;
  while (builder_next(b, &c, &packed))
    if (packed.size > most) most = packed.size;
  return most + RUN_ENTRY;
}

int append_fits(const pg_queue *q, const char *name, append_req *r) {
  if (r->builder->parted && q->config.ordered)
    return fail(RESPOOL_INVALID, "queue '%.120s': a queue in strict order has "
                "no partitions", name);
  int64_t limit = q->config.max_bytes;
  if (r->bound) *r->bound = limit;
  if (limit == RESPOOL_UNLIMITED) return 0;
  uint64_t size = largest(r->builder);
  if (size <= (uint64_t)limit) return 0;
  return fail(RESPOOL_TOO_LARGE, "an item that takes %llu bytes is over "
              "max_queue_bytes of queue '%.120s', %lld",
              (unsigned long long)size, name, (long long)limit);
}

/* ---- runs --------------------------------------------------------------- */

/* The runs that are being made, back to back. */
typedef struct runs {
  run_writer writer;
  packer bytes;
  packer names; /* partitions of the runs, back to back */
  packer table; /* of the runs, see row_of */
  size_t n;
  bool parted;
} runs;

/* A run: its items, and where its bytes and the name of its partition end. */
typedef struct run_row {
  uint64_t first, n, end, name_end;
} run_row;

static void close_run(runs *r) {
  respool_bytes b;
  run_row row = {.first = r->writer.first, .n = r->writer.n};
  if (!r->writer.n) return;
  if (run_end(&r->writer, &b)) {
    r->bytes.rc = RESPOOL_NOMEM;
    return;
  }
  pack_raw(&r->bytes, b.data, b.size);
  row.end = r->bytes.len;
  row.name_end = r->names.len;
  pack_raw(&r->table, &row, sizeof row);
  r->n++;
}

static const run_row *row_of(const runs *r, size_t i) {
  return (const run_row *)(const void *)r->table.data + i;
}

/* Where the name of the open run's partition begins. */
static size_t name_begin(const runs *r) {
  return r->n ? (size_t)row_of(r, r->n - 1)->name_end : 0;
}

/* Is the open run of this partition? */
static bool is_of(const runs *r, respool_bytes name) {
  size_t from = name_begin(r), size = r->names.len - from;
  return size == name.size &&
         (!size || !memcmp(r->names.data + from, name.data, size));
}

static respool_bytes partition_of(respool_bytes packed) {
  unpacker u;
  item i = {.replays = 0};
  blob_ref ref;
  unpacker_init(&u, packed.data, packed.size);
  item_unpack(&u, &i, &ref);
  return i.partition;
}

static void add_to_run(runs *r, uint64_t id, respool_bytes packed) {
  respool_bytes name = {NULL, 0};
  if (r->parted) name = partition_of(packed);
  if (!r->writer.n || !run_has_room(&r->writer, packed.size) ||
      !is_of(r, name)) {
    close_run(r);
    run_begin(&r->writer, id);
    pack_raw(&r->names, name.data, name.size);
  }
  run_add(&r->writer, packed);
}

static void make_runs(const appending *a, runs *r) {
  uint64_t id = a->first, end = a->first + a->fit;
  run_writer_init(&r->writer);
  packer_init(&r->bytes);
  packer_init(&r->names);
  packer_init(&r->table);
  r->n = 0;
  r->parted = false;
  for (size_t i = 0; i < a->n; i++)
    r->parted = r->parted || a->of[i]->builder->parted;
  run_begin(&r->writer, id);
  for (size_t i = 0; i < a->n && id < end; i++) {
    builder_cursor c = {0};
    respool_bytes packed;
    while (id < end && builder_next(a->of[i]->builder, &c, &packed))
      add_to_run(r, id++, packed);
  }
  close_run(r);
}

static void free_runs(runs *r) {
  run_writer_free(&r->writer);
  packer_free(&r->bytes);
  packer_free(&r->names);
  packer_free(&r->table);
}

/* Of each run, or NULL: of none. */
static void put_partitions(values *v, const runs *r) {
  size_t from = 0;
  if (!r->parted) {
    put_null(v);
    return;
  }
  array_begin(v, TYPE_BYTEA, r->n);
  for (size_t i = 0; i < r->n; i++) {
    size_t end = (size_t)row_of(r, i)->name_end;
    if (end > from)
      add_bytes(v, (respool_bytes){r->names.data + from, end - from});
    else
      add_null(v);
    from = end;
  }
  array_end(v);
}

static void put_runs(values *v, const runs *r) {
  size_t from = 0;
  array_begin(v, TYPE_INT8, r->n);
  for (size_t i = 0; i < r->n; i++) add_int8(v, (int64_t)row_of(r, i)->first);
  array_end(v);
  array_begin(v, TYPE_INT4, r->n);
  for (size_t i = 0; i < r->n; i++) add_int4(v, (int64_t)row_of(r, i)->n);
  array_end(v);
  array_begin(v, TYPE_BYTEA, r->n);
  for (size_t i = 0; i < r->n; i++) {
    size_t end = (size_t)row_of(r, i)->end;
    add_bytes(v, (respool_bytes){r->bytes.data + from, end - from});
    from = end;
  }
  array_end(v);
  put_partitions(v, r);
}

/* ---- what dies ---------------------------------------------------------- */

static size_t body_size(respool_bytes packed) {
  unpacker u;
  item i = {.replays = 0};
  blob_ref ref;
  unpacker_init(&u, packed.data, packed.size);
  item_unpack(&u, &i, &ref);
  return i.body.size;
}

/* Walks over the items behind those that fit. */
typedef struct rest {
  const appending *a;
  size_t of;
  uint64_t i; /* of all */
  builder_cursor c;
} rest;

static bool rest_next(rest *w, respool_bytes *packed) {
  while (w->of < w->a->n) {
    if (!builder_next(w->a->of[w->of]->builder, &w->c, packed)) {
      w->of++;
      memset(&w->c, 0, sizeof w->c);
    } else if (w->i++ >= w->a->fit)
      return true;
  }
  return false;
}

static uint64_t dead_body_bytes(const appending *a) {
  rest w = {.a = a};
  respool_bytes packed;
  uint64_t n = 0;
  while (rest_next(&w, &packed)) n += body_size(packed);
  return n;
}

static void put_same(values *v, uint32_t type, uint64_t n,
                     respool_bytes text) {
  array_begin(v, type, n);
  for (uint64_t i = 0; i < n; i++) add_bytes(v, text);
  array_end(v);
}

static const char *dlq_of(const appending *a, const death *d) {
  return d->dlq ? d->dlq : a->queue.config.dlq;
}

static void put_records(values *v, const appending *a, const death *d,
                        uint64_t n) {
  rest w = {.a = a};
  respool_bytes packed;
  packer p;
  packer_init(&p);
  array_begin(v, TYPE_BYTEA, n);
  while (rest_next(&w, &packed)) {
    respool_item_about about = {.priority = a->of[0]->priority,
                                .version = a->of[0]->builder->version,
                                .pushed_at = a->died_at};
    respool_item i = {.id = a->first + w.i - 1, .about = &about};
    dead l = dead_of(d, a->name, &i, packed);
    packer_reset(&p);
    dead_pack(&p, phrase_of(dlq_of(a, d)), &l);
    add_bytes(v, (respool_bytes){p.data, p.len});
    if (p.rc) v->rc = p.rc;
  }
  array_end(v);
  packer_free(&p);
}

/* As it is stored in the record; no bytes are none, not NULL. */
static respool_bytes group_of(const death *d) {
  respool_bytes group = phrase_cut(d->group, FAILURE_TEXT);
  return group.data ? group : (respool_bytes){"", 0};
}

static void plan_dead(plan *p, appending *a) {
  uint64_t n = a->items - a->fit;
  values *v = plan_add(p, STATEMENT_PUSH_DEAD, &a->dead);
  death d = {.reason = "overflow", .items = 1,
             .error = phrase_of("the queue was full"),
             .memo = a->of[0]->memo};
  a->died_at = pg_now(p->e, p->now);
  d.at = a->died_at;
  if (a->of[0]->dead &&
      death_of_push(&p->memory, a->of[0]->dead, d.at, &d))
    p->rc = RESPOOL_NOMEM;
  plan_put_queue(p, v, a->queue.id);
  plan_put_call(p, v);
  put_int8(v, (int64_t)dead_body_bytes(a));
  put_same(v, TYPE_TEXT, n, phrase_of(dlq_of(a, &d)));
  put_same(v, TYPE_BYTEA, n, group_of(&d));
  put_same(v, TYPE_BYTEA, n, phrase_of(d.reason));
  put_int8(v, a->died_at);
  put_records(v, a, &d, n);
  put_int2(v, death_number(d.reason));
}

/* ---- the push ----------------------------------------------------------- */

static void put_ttl(values *v, int64_t ttl) {
  if (ttl == RESPOOL_KEEP)
    put_null(v);
  else
    put_int8(v, ttl == RESPOOL_UNLIMITED ? -1 : ttl);
}

static void put_or_null(values *v, uint64_t n) {
  if (n)
    put_int8(v, (int64_t)n);
  else
    put_null(v);
}

static uint64_t body_bytes(const appending *a) {
  uint64_t n = 0;
  for (size_t i = 0; i < a->n; i++) n += a->of[i]->builder->body_bytes;
  return a->fit < a->items ? n - dead_body_bytes(a) : n;
}

static respool_bytes key_of(const appending *a) {
  return a->keyless || !a->of[0]->key.size ? (respool_bytes){NULL, 0}
                                           : a->of[0]->key;
}

/* One run of which no more is said than of most. */
static bool is_plain(const append_req *r, const runs *made) {
  return made->n == 1 && !made->parted && !r->delay && !r->at &&
         r->ttl == RESPOOL_KEEP && !r->attempts && !r->memo.size &&
         r->reason <= 0 && !r->key.size && !r->owner;
}

static void put_plain(plan *p, appending *a, const runs *made) {
  const append_req *r = a->of[0];
  values *v = plan_add(p, STATEMENT_PUSH_RUN, &a->push);
  void *body = plan_alloc(p, made->bytes.len);
  if (body) memcpy(body, made->bytes.data, made->bytes.len);
  plan_put_queue(p, v, a->queue.id);
  plan_put_wall(p, v);
  plan_put_call(p, v);
  put_int2(v, r->priority);
  put_int8(v, (int64_t)r->builder->version);
  put_int8(v, (int64_t)body_bytes(a));
  put_bool(v, p->now == SERVER_TIME);
  put_int8(v, (int64_t)a->first);
  put_int4(v, (int64_t)a->fit);
  put_bytes(v, (respool_bytes){body, made->bytes.len});
}

static void put_push(plan *p, appending *a, const runs *made) {
  const append_req *r = a->of[0];
  values *v = plan_add(p, STATEMENT_PUSH, &a->push);
  plan_put_queue(p, v, a->queue.id);
  plan_put_wall(p, v);
  plan_put_call(p, v);
  put_int2(v, r->priority);
  put_int8(v, r->delay);
  put_or_null(v, (uint64_t)r->at);
  put_ttl(v, r->ttl);
  put_int8(v, (int64_t)r->builder->version);
  put_int4(v, (int64_t)r->attempts);
  put_bytes(v, r->memo.size ? r->memo : (respool_bytes){NULL, 0});
  put_int2(v, r->reason);
  put_int8(v, (int64_t)body_bytes(a));
  put_bytes(v, key_of(a));
  put_int2(v, r->on_conflict);
  put_int8(v, r->dedup);
  put_or_null(v, r->owner ? r->owner->first : 0);
  put_or_null(v, r->owner ? a->owner_token : 0);
  put_bool(v, p->now == SERVER_TIME);
  put_int8(v, (int64_t)a->fit);
  put_int8(v, (int64_t)made->bytes.len);
  put_runs(v, made);
}

static void plan_push(plan *p, appending *a) {
  runs made;
  make_runs(a, &made);
  if (is_plain(a->of[0], &made))
    put_plain(p, a, &made);
  else
    put_push(p, a, &made);
  if (made.bytes.rc || made.table.rc || made.names.rc) p->rc = RESPOOL_NOMEM;
  free_runs(&made);
}

int append_plan(plan *p, appending *a) {
  a->push = a->dead = NO_REQUEST;
  a->first = 0;
  if (a->of[0]->owner && a->of[0]->owner_mark->gone) return 0;
  int rc = known_find(p->e, p->l, a->name, &a->queue);
  for (size_t i = 0; i < a->n && !rc; i++) {
    a->of[i]->duplicate = a->of[i]->never_fits = false;
    rc = append_fits(&a->queue, a->name, a->of[i]);
  }
  if (!rc) rc = session_ids(p->l, a->items, &a->first);
  if (rc) return rc;
  if (a->fit) plan_push(p, a);
  if (a->fit < a->items) plan_dead(p, a);
  return 0;
}

void append_undo(plan *p, appending *a) {
  if (a->first) session_ids_back(p->l, a->first, a->items);
  a->first = 0;
}

/* ---- after it ----------------------------------------------------------- */

static void note_first(appending *a, uint64_t first, bool held) {
  for (size_t i = 0; i < a->n; i++) {
    a->of[i]->first = first;
    a->of[i]->duplicate = held;
    if (first) first += a->of[i]->builder->n_items;
  }
}

static void end_push(plan *p, appending *a) {
  const PGresult *r = plan_answer(p, a->push);
  uint64_t first = (uint64_t)(r ? value_element(r, 0, 0, 0) : plan_noted(p));
  bool held = r ? value_element(r, 0, 0, 1) : plan_noted(p);
  note_first(a, first, held);
  if (held || !first) append_undo(p, a);
  if (!r) return;
  if (value_element(r, 0, 0, 2)) bells_ring(p->e->bells, a->queue.id);
  if (p->now == SERVER_TIME) pg_note_time(p->e, value_element(r, 0, 0, 3));
}

static void end_dead(plan *p, appending *a) {
  const PGresult *r = plan_answer(p, a->dead);
  const dead_push *f = a->of[0]->dead;
  uint64_t n = a->items - a->fit;
  for (uint64_t i = 0; i < n; i++) {
    int64_t number = r ? value_element(r, 0, 0, i) : plan_noted(p);
    a->of[0]->number = (uint64_t)number;
    if (a->of[0]->notices)
      notices_add(&p->notices, a->of[0]->notices,
                  f && f->dlq ? f->dlq : a->queue.config.dlq,
                  (uint64_t)number);
  }
  if (!a->fit) note_first(a, a->first, false);
}

void append_end(plan *p, appending *a) {
  if (a->push != NO_REQUEST) end_push(p, a);
  if (a->dead != NO_REQUEST) end_dead(p, a);
}

/* How many items, from the first on, there is room for; takes it from the
   room. */
static uint64_t fitting(const appending *a, append_room *room) {
  appending none = *a;
  rest w = {.a = &none};
  respool_bytes packed;
  uint64_t n = 0;
  none.fit = 0;
  while (room->items && rest_next(&w, &packed)) {
    int64_t size = (int64_t)(packed.size + RUN_ENTRY);
    if (room->bytes >= 0 && size > room->bytes) break;
    if (room->bytes >= 0) room->bytes -= size;
    if (room->items > 0) room->items--;
    n++;
  }
  return n;
}

bool append_takes_room(const appending *a, append_room *room) {
  append_room left = *room;
  if (fitting(a, &left) < a->items) return false;
  *room = left;
  return true;
}

bool append_refused(const plan *p, appending *a, append_room *room) {
  const char *detail = p->call.why.detail;
  char *end;
  if (!failure_is(&p->call.why, "RS001")) return false;
  long overflow = strtol(detail, &end, 10);
  room->items = strtoll(end, &end, 10);
  room->bytes = strtoll(end, &end, 10);
  bool never = strtol(end, &end, 10) != 0;
  for (size_t i = 0; i < a->n; i++) a->of[i]->never_fits = never;
  if (overflow != RESPOOL_OVERFLOW_DEAD || !a->fit) return false;
  append_room left = *room;
  uint64_t fit = a->of[0]->partial_ok ? fitting(a, &left) : 0;
  a->fit = fit < a->fit ? fit : 0;
  return true;
}

/* SPDX-License-Identifier: MIT */
#include "kit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

_Thread_local pg_failure kit_why;

static void die(const char *what) {
  fprintf(stderr, "%s: %s\n", what, respool_error_text());
  exit(2);
}

void kit_open(kit *k, const char *location, const char *schema, bool make) {
  char text[600];
  memset(k, 0, sizeof *k);
  snprintf(text, sizeof text, "%s%sschema=%s", location,
           strchr(location, '?') ? "&" : "?", schema);
  if (url_parse(text, &k->url)) die("url");
  k->prepare = k->url.prepare;
  random_init(&k->chance, 0);
  session_init(&k->s, &k->url, &k->prepare, &k->chance);
  if (make && (schema_drop(&k->s) || schema_make(&k->s)))
    die("schema");
}

void kit_close(kit *k) {
  session_close(&k->s);
  url_free(&k->url);
}

int kit_call(kit *k, request *r, values *v, enum statement s, bool changes) {
  *r = (request){.statement = s, .values = v};
  call c = {.requests = r, .n = 1, .changes = changes,
            .relaxed = s == STATEMENT_TAKE};
  int rc = call_run(&k->s, &c);
  kit_why = c.why;
  free(c.answer);
  return rc;
}

static void put_wall(const kit *k, values *v) {
  if (k->wall)
    put_int8(v, k->wall);
  else
    put_null(v);
}

static void put_unless_0(values *v, int64_t n) {
  if (n)
    put_int8(v, n);
  else
    put_null(v);
}

/* ---- queues ------------------------------------------------------------- */

kit_queue kit_queue_save(kit *k, const char *name, int seen,
                         const kit_policy *p) {
  static const kit_policy plain;
  values v;
  request r;
  if (!p) p = &plain;
  values_init(&v);
  put_text(&v, name);
  put_int4(&v, seen);
  put_bytes(&v, (respool_bytes){"", 0});
  put_bool(&v, p->ordered);
  put_int2(&v, p->overflow);
  put_bool(&v, p->drop_expired);
  put_int8(&v, 30000);
  put_int8(&v, p->max_crashes ? p->max_crashes : 3);
  put_unless_0(&v, p->ttl);
  put_unless_0(&v, p->max_items);
  put_unless_0(&v, p->max_bytes);
  put_int8(&v, p->keep_done);
  put_unless_0(&v, p->keep_done_bytes);
  put_unless_0(&v, p->keep_dead);
  put_null(&v); /* no bound of dead letters */
  put_null(&v);
  if (p->n_weights) {
    array_begin(&v, TYPE_INT4, p->n_weights);
    for (size_t i = 0; i < p->n_weights; i++) add_int4(&v, p->weights[i]);
    array_end(&v);
  } else
    put_null(&v);
  put_text(&v, name);
  put_wall(k, &v);
  for (int i = 0; i < 7; i++) put_null(&v); /* no rate, no breaker */
  put_bool(&v, false); /* and no bounds of partitions */
  put_int8(&v, 0);
  put_int8(&v, 0);
  for (int i = 0; i < 7; i++) put_null(&v);
  if (kit_call(k, &r, &v, STATEMENT_QUEUE_SAVE, false)) die("queue");
  kit_queue q = {(int)value_int(r.result, 0, 0),
                 (int)value_int(r.result, 0, 1)};
  request_clear(&r);
  values_free(&v);
  return q;
}

/* ---- push --------------------------------------------------------------- */

typedef struct pack {
  respool_bytes bytes[KIT_RUNS];
  uint64_t first[KIT_RUNS];
  uint32_t n[KIT_RUNS];
  size_t count;
} pack;

static void add_run(pack *p, run_writer *w) {
  respool_bytes b;
  if (run_end(w, &b)) die("memory");
  void *copy = malloc(b.size);
  memcpy(copy, b.data, b.size);
  p->bytes[p->count] = (respool_bytes){copy, b.size};
  p->first[p->count] = w->first;
  p->n[p->count++] = w->n;
}

/* An item whose body begins with its id. */
static void pack_one(packer *one, uint64_t id, const kit_push *o) {
  static const uint8_t filler[65536];
  uint8_t body[65536];
  size_t size = o->body ? o->body : 8;
  item i = {.body = {body, size}};
  if (o->key) i.key = (respool_bytes){o->key, strlen(o->key)};
  if (size > sizeof body) i.body.size = size = sizeof body;
  memcpy(body, filler, size);
  memcpy(body, &id, sizeof id);
  packer_reset(one);
  item_pack(one, &i);
}

static void pack_items(pack *p, uint64_t first, size_t n, const kit_push *o) {
  run_writer w;
  packer one;
  run_writer_init(&w);
  packer_init(&one);
  run_begin(&w, first);
  for (size_t i = 0; i < n; i++) {
    pack_one(&one, first + i, o);
    if (!run_has_room(&w, one.len) || (o->per_run && w.n == o->per_run)) {
      add_run(p, &w);
      run_begin(&w, first + i);
    }
    run_add(&w, (respool_bytes){one.data, one.len});
  }
  add_run(p, &w);
  packer_free(&one);
  run_writer_free(&w);
}

static int64_t size_of(const pack *p) {
  size_t n = 0;
  for (size_t i = 0; i < p->count; i++) n += p->bytes[i].size;
  return (int64_t)n;
}

static void put_runs(values *v, const pack *p) {
  array_begin(v, TYPE_INT8, p->count);
  for (size_t i = 0; i < p->count; i++) add_int8(v, (int64_t)p->first[i]);
  array_end(v);
  array_begin(v, TYPE_INT4, p->count);
  for (size_t i = 0; i < p->count; i++) add_int4(v, p->n[i]);
  array_end(v);
  array_begin(v, TYPE_BYTEA, p->count);
  for (size_t i = 0; i < p->count; i++) add_bytes(v, p->bytes[i]);
  array_end(v);
}

int kit_push_items(kit *k, int queue, size_t n, const kit_push *o,
                   uint64_t *first) {
  static const kit_push plain;
  pack *p = malloc(sizeof *p);
  values v;
  request r;
  call c = {.n = 1};
  uint64_t id;
  if (!o) o = &plain;
  c.changes = !o->no_call;
  p->count = 0;
  if (session_ids(&k->s, n, &id)) die("ids");
  pack_items(p, id, n, o);
  if (!o->no_call) call_new_id(&c, &k->chance);
  values_init(&v);
  put_int4(&v, queue);
  put_int4(&v, session_slot(&k->s));
  put_wall(k, &v);
  put_uuid(&v, o->no_call ? NULL : c.id);
  put_int2(&v, 0);
  put_int2(&v, o->priority);
  put_int8(&v, o->delay);
  put_null(&v);
  put_unless_0(&v, o->ttl);
  put_int8(&v, 7);
  put_int4(&v, o->attempts);
  put_null(&v);
  put_int2(&v, 0);
  put_int8(&v, (int64_t)(n * (o->body ? o->body : 8)));
  put_text(&v, o->key);
  put_int2(&v, o->on_conflict);
  put_int8(&v, o->dedup);
  put_unless_0(&v, (int64_t)o->owner);
  put_unless_0(&v, (int64_t)o->token);
  put_bool(&v, false);
  put_int8(&v, (int64_t)n);
  put_int8(&v, size_of(p));
  put_runs(&v, p);
  put_null(&v);
  r = (request){.statement = STATEMENT_PUSH, .values = &v};
  c.requests = &r;
  int rc = call_run(&k->s, &c);
  kit_why = c.why;
  if (!rc && first)
    *first = c.resolved ? (uint64_t)c.answer[0]
                        : (uint64_t)value_int(r.result, 0, 0);
  for (size_t i = 0; i < p->count; i++) free((void *)p->bytes[i].data);
  call_clear(&c);
  values_free(&v);
  free(p);
  return rc;
}

/* ---- take --------------------------------------------------------------- */

static void *grow(void *v, size_t *cap, size_t want, size_t size) {
  if (want <= *cap) return v;
  *cap = want * 2;
  v = realloc(v, *cap * size);
  if (!v) die("memory");
  return v;
}

static void add_items(kit_batch *b, kit_run *r) {
  run_reader items;
  if (!run_open(&items, r->t.bytes, r->t.first, r->t.n, r->t.skip)) {
    b->damaged++;
    return;
  }
  memset(r->bits, 0, sizeof r->bits);
  for (uint32_t i = 0; i < r->t.n; i++) {
    respool_bytes packed;
    unpacker u;
    item it;
    blob_ref ref;
    if (!taken_live(&r->t, i)) continue;
    run_bit_set(r->bits, i, true);
    if (r->t.kind != TAKEN_RUN) continue;
    b->ids = grow(b->ids, &b->cap_ids, b->n + 1, sizeof *b->ids);
    b->ids[b->n++] = r->t.first + i;
    if (!run_item(&items, i, &packed)) {
      b->damaged++;
      continue;
    }
    unpacker_init(&u, packed.data, packed.size);
    uint64_t id = r->t.first + i;
    if (!item_unpack(&u, &it, &ref) || memcmp(it.body.data, &id, 8))
      b->damaged++;
  }
}

static int by_place(const void *a, const void *b) {
  const kit_run *x = a, *y = b;
  return (x->t.place > y->t.place) - (x->t.place < y->t.place);
}

void kit_read_batch(const PGresult *r, kit_batch *b) {
  int n = pq.ntuples(r);
  if (!taken_head_read(r, &b->head)) die("head");
  b->n_runs = b->n = b->damaged = 0;
  b->n_crashed = b->n_expired = 0;
  b->runs = grow(b->runs, &b->cap_runs, (size_t)n, sizeof *b->runs);
  for (int i = 0; i < n; i++)
    if (taken_read(r, i, &b->runs[b->n_runs].t))
      b->n_runs++;
    else if (i)
      die("row");
  qsort(b->runs, b->n_runs, sizeof *b->runs, by_place);
  for (size_t i = 0; i < b->n_runs; i++) {
    b->n_crashed += b->runs[i].t.kind == TAKEN_CRASHED;
    b->n_expired += b->runs[i].t.kind == TAKEN_EXPIRED;
    add_items(b, &b->runs[i]);
  }
}

static void put_token(kit *k, values *v) {
  uint64_t token;
  if (session_token(&k->s, 0, &token)) die("token");
  put_int8(v, (int64_t)token);
}

int kit_take_items(kit *k, int queue, int want, const kit_take *o,
                   kit_batch *b) {
  static const kit_take plain;
  values v;
  request r;
  if (!o) o = &plain;
  values_init(&v);
  put_int4(&v, queue);
  put_int4(&v, session_slot(&k->s));
  put_wall(k, &v);
  put_int4(&v, want);
  put_unless_0(&v, o->bytes);
  put_unless_0(&v, o->lease);
  put_unless_0(&v, o->low_due);
  put_unless_0(&v, o->low_fresh);
  put_null(&v);
  put_token(k, &v);
  int rc = kit_call(k, &r, &v, STATEMENT_TAKE, false);
  if (!rc) kit_read_batch(r.result, b);
  request_clear(&r);
  values_free(&v);
  return rc;
}

void kit_batch_free(kit_batch *b) {
  free(b->runs);
  free(b->ids);
  memset(b, 0, sizeof *b);
}

/* ---- settle ------------------------------------------------------------- */

/* The arguments that every settle begins with. */
static void begin_settle(kit *k, int queue, call *c, values *v) {
  call_new_id(c, &k->chance);
  values_init(v);
  put_int4(v, queue);
  put_int4(v, session_slot(&k->s));
  put_wall(k, v);
  put_uuid(v, c->id);
  put_int2(v, 0);
}

void kit_put_runs(values *v, const kit_batch *b) {
  array_begin(v, TYPE_INT8, b->n_runs);
  for (size_t i = 0; i < b->n_runs; i++)
    add_int8(v, (int64_t)b->runs[i].t.first);
  array_end(v);
  array_begin(v, TYPE_INT4, b->n_runs);
  for (size_t i = 0; i < b->n_runs; i++) add_int4(v, b->runs[i].t.live);
  array_end(v);
}

size_t kit_done(kit *k, int queue, const kit_batch *b) {
  values v;
  request r;
  call c = {.n = 1, .changes = true, .requests = &r};
  begin_settle(k, queue, &c, &v);
  put_int8(&v, (int64_t)b->head.token);
  put_bool(&v, k->keep);
  put_bool(&v, false);
  put_bool(&v, false);
  kit_put_runs(&v, b);
  r = (request){.statement = STATEMENT_DONE, .values = &v};
  if (call_run(&k->s, &c)) die("done");
  size_t lost = c.resolved ? (size_t)c.answer[0]
                           : value_count(r.result, 0, 0);
  call_clear(&c);
  values_free(&v);
  return lost;
}

/* The outcomes of a batch, run by run. */
typedef struct plan {
  const kit_batch *b;
  const kit_settle *o;
  int queue;
  char stay[KIT_RUNS]; /* what stays in the run; 0: nothing */
  const char *letters[KIT_RUNS];
} plan;

static bool is_burial(const kit_run *r) {
  return r->t.kind != TAKEN_RUN;
}

static char outcome(const plan *p, size_t run, uint32_t live) {
  if (is_burial(&p->b->runs[run])) return 'x';
  return p->letters[run] ? p->letters[run][live] : '-';
}

static char staying(const plan *p, size_t run) {
  static const char order[] = "-lrs";
  const taken *t = &p->b->runs[run].t;
  for (const char *c = order; *c; c++)
    for (uint32_t i = 0; i < t->live; i++)
      if (outcome(p, run, i) == *c) return *c;
  return 0;
}

static bool parts(const plan *p, size_t run, uint32_t live) {
  char c = outcome(p, run, live);
  return c != p->stay[run] && strchr("plrs", c);
}

/* Calls `each` for every live item of a run: its number among all n, and
   among the live. */
typedef void (*live_fn)(values *v, const plan *p, size_t run, uint32_t i,
                        uint32_t live);
static void each_live(values *v, const plan *p, live_fn f) {
  for (size_t r = 0; r < p->b->n_runs; r++) {
    const kit_run *x = &p->b->runs[r];
    for (uint32_t i = 0, live = 0; i < x->t.n; i++)
      if (run_bit(x->bits, i)) f(v, p, r, i, live++);
  }
}

static void count_part(values *v, const plan *p, size_t r, uint32_t i,
                       uint32_t live) {
  (void)i;
  *(size_t *)(void *)v += parts(p, r, live);
}

static void count_dead(values *v, const plan *p, size_t r, uint32_t i,
                       uint32_t live) {
  (void)i;
  *(size_t *)(void *)v += outcome(p, r, live) == 'x';
}

static size_t count_of(const plan *p, live_fn f) {
  size_t n = 0;
  each_live((values *)(void *)&n, p, f);
  return n;
}

static uint32_t left_in(const plan *p, size_t r) {
  uint32_t n = 0;
  const taken *t = &p->b->runs[r].t;
  for (uint32_t i = 0; i < t->live && p->stay[r]; i++)
    n += outcome(p, r, i) == p->stay[r];
  return n;
}

static void put_bits_of(values *v, const plan *p, size_t r, char which) {
  const kit_run *x = &p->b->runs[r];
  uint8_t bits[RUN_ITEMS / 8 + 1] = {0};
  for (uint32_t i = 0, live = 0; i < x->t.n; i++)
    if (run_bit(x->bits, i) && outcome(p, r, live++) == which)
      run_bit_set(bits, i, true);
  add_bits(v, bits, x->t.n);
}

static bool all_stay(const plan *p, size_t r) {
  const taken *t = &p->b->runs[r].t;
  return left_in(p, r) == t->n;
}

static void put_run_arrays(values *v, const plan *p) {
  size_t n = p->b->n_runs;
  array_begin(v, TYPE_INT8, n);
  for (size_t r = 0; r < n; r++)
    add_int8(v, (int64_t)p->b->runs[r].t.first);
  array_end(v);
  array_begin(v, TYPE_INT4, n);
  for (size_t r = 0; r < n; r++) add_int4(v, left_in(p, r));
  array_end(v);
  array_begin(v, TYPE_VARBIT, n);
  for (size_t r = 0; r < n; r++)
    if (!p->stay[r] || all_stay(p, r))
      add_null(v);
    else
      put_bits_of(v, p, r, p->stay[r]);
  array_end(v);
  array_begin(v, TYPE_INT8, n);
  for (size_t r = 0; r < n; r++) {
    if (p->stay[r] == '-' || !p->stay[r])
      add_null(v);
    else
      add_int8(v, p->stay[r] == 'l' ? 0 : p->o->wait);
  }
  array_end(v);
  array_begin(v, TYPE_INT4, n);
  for (size_t r = 0; r < n; r++)
    add_int4(v, (int64_t)p->b->runs[r].t.attempts +
                    (p->stay[r] == 'r' || p->stay[r] == 'p'));
  array_end(v);
  array_begin(v, TYPE_INT8, n);
  for (size_t r = 0; r < n; r++)
    add_int8(v, p->stay[r] == 'r' ? p->o->wait : 0);
  array_end(v);
  for (int i = 0; i < 2; i++) { /* history, memo */
    array_begin(v, TYPE_BYTEA, n);
    for (size_t r = 0; r < n; r++)
      if (p->stay[r] == 'r')
        add_bytes(v, (respool_bytes){"told", 4});
      else
        add_null(v);
    array_end(v);
  }
}

static void put_counts(values *v, const plan *p) {
  static const char *const what[] = {"d", "D", "x", "", "l", "rp", "s"};
  array_begin(v, TYPE_INT4, 7 * p->b->n_runs);
  for (size_t r = 0; r < p->b->n_runs; r++) {
    const kit_run *x = &p->b->runs[r];
    for (int w = 0; w < 7; w++) {
      int64_t n = 0;
      for (uint32_t i = 0; i < x->t.live; i++)
        n += strchr(what[w], outcome(p, r, i)) != NULL;
      if (x->t.kind == TAKEN_EXPIRED) n = w == 3 ? x->t.live : 0;
      add_int4(v, n);
    }
  }
  array_end(v);
  if (!p->o->keep) {
    put_null(v);
    return;
  }
  array_begin(v, TYPE_VARBIT, p->b->n_runs);
  for (size_t r = 0; r < p->b->n_runs; r++) {
    bool any = false;
    for (uint32_t i = 0; i < p->b->runs[r].t.live; i++)
      any |= outcome(p, r, i) == 'd';
    if (any)
      put_bits_of(v, p, r, 'd');
    else
      add_null(v);
  }
  array_end(v);
}

static void part_run(values *v, const plan *p, size_t r, uint32_t i,
                     uint32_t live) {
  (void)i;
  if (parts(p, r, live)) add_int8(v, (int64_t)p->b->runs[r].t.first);
}

static void part_id(values *v, const plan *p, size_t r, uint32_t i,
                    uint32_t live) {
  if (parts(p, r, live)) add_int8(v, (int64_t)p->b->runs[r].t.first + i);
}

static void part_wait(values *v, const plan *p, size_t r, uint32_t i,
                      uint32_t live) {
  (void)i;
  if (parts(p, r, live))
    add_int8(v, outcome(p, r, live) == 'l' ? 0 : p->o->wait);
}

static void part_attempts(values *v, const plan *p, size_t r, uint32_t i,
                          uint32_t live) {
  (void)i;
  if (parts(p, r, live))
    add_int4(v, (int64_t)p->b->runs[r].t.attempts +
                    (strchr("rp", outcome(p, r, live)) != NULL));
}

static void part_delay(values *v, const plan *p, size_t r, uint32_t i,
                       uint32_t live) {
  (void)i;
  if (parts(p, r, live)) add_int8(v, 0);
}

static void part_bytes(values *v, const plan *p, size_t r, uint32_t i,
                       uint32_t live) {
  (void)i;
  if (parts(p, r, live)) add_null(v);
}

static void put_array(values *v, const plan *p, uint32_t type, size_t n,
                      live_fn f) {
  array_begin(v, type, n);
  each_live(v, p, f);
  array_end(v);
}

static void put_parts(values *v, const plan *p) {
  size_t n = count_of(p, count_part);
  put_array(v, p, TYPE_INT8, n, part_run);
  put_array(v, p, TYPE_INT8, n, part_id);
  put_array(v, p, TYPE_INT8, n, part_wait);
  put_array(v, p, TYPE_INT4, n, part_attempts);
  put_array(v, p, TYPE_INT8, n, part_delay);
  put_array(v, p, TYPE_BYTEA, n, part_bytes);
  put_array(v, p, TYPE_BYTEA, n, part_bytes);
}

static void dead_run(values *v, const plan *p, size_t r, uint32_t i,
                     uint32_t live) {
  (void)i;
  if (outcome(p, r, live) == 'x')
    add_int8(v, (int64_t)p->b->runs[r].t.first);
}

/* A queue's own DLQ: the kit's queues are called q1, q2, as their ids. */
static void dead_dlq(values *v, const plan *p, size_t r, uint32_t i,
                     uint32_t live) {
  char name[32];
  int n = snprintf(name, sizeof name, "q%d", p->queue);
  (void)i;
  if (outcome(p, r, live) == 'x')
    add_bytes(v, (respool_bytes){name, (size_t)n});
}

static void dead_text(values *v, const plan *p, size_t r, uint32_t i,
                      uint32_t live) {
  (void)i;
  if (outcome(p, r, live) == 'x') add_bytes(v, (respool_bytes){"dead", 4});
}

static void dead_one(values *v, const plan *p, size_t r, uint32_t i,
                     uint32_t live) {
  (void)i;
  if (outcome(p, r, live) == 'x') add_int4(v, 1);
}

static void dead_id(values *v, const plan *p, size_t r, uint32_t i,
                    uint32_t live) {
  uint64_t id = p->b->runs[r].t.first + i;
  if (outcome(p, r, live) == 'x') add_bytes(v, (respool_bytes){&id, 8});
}

static void put_dead(values *v, const plan *p) {
  size_t n = count_of(p, count_dead);
  put_array(v, p, TYPE_INT8, n, dead_run);
  put_array(v, p, TYPE_TEXT, n, dead_dlq);
  put_array(v, p, TYPE_BYTEA, n, dead_text);
  put_array(v, p, TYPE_BYTEA, n, dead_text);
  put_array(v, p, TYPE_INT4, n, dead_one);
  put_array(v, p, TYPE_INT4, n, dead_one);
  put_array(v, p, TYPE_BYTEA, n, dead_id);
}

static plan *make_plan(int queue, const kit_batch *b,
                       const kit_settle *o) {
  plan *p = malloc(sizeof *p);
  const char *at = o->outcomes;
  p->b = b;
  p->o = o;
  p->queue = queue;
  for (size_t r = 0; r < b->n_runs; r++) {
    p->letters[r] = at;
    if (at && !is_burial(&b->runs[r])) at += b->runs[r].t.live;
    p->stay[r] = staying(p, r);
    if (!p->stay[r] && b->runs[r].t.n == 1 && outcome(p, r, 0) == 'p')
      p->stay[r] = 'p'; /* a run of one does not part */
  }
  return p;
}

int kit_settle_batch(kit *k, int queue, const kit_batch *b, kit_settle *o) {
  plan *p = make_plan(queue, b, o);
  values v;
  request r;
  call c = {.n = 1, .changes = true, .requests = &r};
  begin_settle(k, queue, &c, &v);
  put_int4(&v, o->policy ? o->policy : b->head.policy);
  put_int8(&v, (int64_t)b->head.token);
  put_bool(&v, o->strict);
  put_bool(&v, false);
  put_int4(&v, 0);
  put_run_arrays(&v, p);
  put_null(&v); /* no attempts are given back, */
  put_null(&v); /* no items cancelled */
  put_counts(&v, p);
  put_parts(&v, p);
  put_dead(&v, p);
  r = (request){.statement = STATEMENT_SETTLE, .values = &v};
  int rc = call_run(&k->s, &c);
  kit_why = c.why;
  if (!rc) {
    o->lost = c.resolved ? (size_t)c.answer[0] : value_count(r.result, 0, 0);
    o->number = c.resolved || !value_count(r.result, 0, 1) ? 0
        : (uint64_t)value_element(r.result, 0, 1, 0);
  }
  call_clear(&c);
  values_free(&v);
  free(p);
  return rc;
}

/* ---- looking ------------------------------------------------------------ */

/* False: the connection has gone. */
static bool try_number(kit *k, const char *sql, int64_t *n) {
  PGconn *c = k->s.at.c;
  int status = 0;
  pq.setnonblocking(c, 0);
  pq.sendQueryParams(c, sql, 0, NULL, NULL, NULL, NULL, 1);
  pq.pipelineSync(c);
  while (status != PG_PIPELINE_SYNC) {
    PGresult *r = pq.getResult(c);
    if (pq.status(c) != PG_CONNECTION_OK) {
      if (r) pq.clear(r);
      return false;
    }
    if (!r) continue;
    status = pq.resultStatus(r);
    if (status == PG_TUPLES_OK && pq.ntuples(r)) *n = value_int(r, 0, 0);
    if (status > PG_TUPLES_OK && status != PG_PIPELINE_SYNC) {
      fprintf(stderr, "%s: %s\n", sql, pq.resultErrorField(r, PG_MESSAGE));
      exit(2);
    }
    pq.clear(r);
  }
  pq.setnonblocking(c, 1);
  return true;
}

int64_t kit_number(kit *k, const char *sql) {
  pg_failure f;
  int64_t n = 0, end = clock_mono() + 120000;
  char text[200];
  snprintf(text, sizeof text, "SELECT set_config('search_path', '%s', false)",
           k->url.schema);
  while (clock_mono() < end) {
    if (!connection_open(&k->s.at, end, &f) &&
        !connection_script(&k->s.at, text, end, &f)) {
      if (try_number(k, sql, &n)) return n;
      connection_close(&k->s.at);
    }
    usleep(50000);
  }
  die(sql);
  return 0;
}

size_t kit_check(kit *k) {
  values v;
  request r;
  values_init(&v);
  if (kit_call(k, &r, &v, STATEMENT_CHECK, false)) die("check");
  int n = pq.ntuples(r.result);
  for (int i = 0; i < n && i < 10; i++)
    printf("check: %s\n", pq.getvalue(r.result, i, 0));
  request_clear(&r);
  return (size_t)n;
}

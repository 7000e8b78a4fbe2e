/* SPDX-License-Identifier: MIT */
#include "kit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

_Thread_local pg_failure kit_why;

void kit_die(const char *what) {
  fprintf(stderr, "%s: %s\n", what, respool_error_text());
  exit(2);
}

void kit_open(kit *k, const char *location, const char *schema, bool make) {
  char text[600];
  memset(k, 0, sizeof *k);
  snprintf(text, sizeof text, "%s%sschema=%s", location,
           strchr(location, '?') ? "&" : "?", schema);
  if (url_parse(text, &k->url)) kit_die("url");
  k->prepare = k->url.prepare;
  random_init(&k->chance, 0);
  session_init(&k->s, &k->url, &k->prepare, &k->chance);
  if (make && (schema_drop(&k->s) || schema_make(&k->s)))
    kit_die("schema");
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

void kit_put_wall(const kit *k, values *v) {
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
  kit_put_wall(k, &v);
  for (int i = 0; i < 7; i++) put_null(&v); /* no rate, no breaker */
  put_bool(&v, false); /* and no bounds of partitions */
  put_int8(&v, 0);
  put_int8(&v, 0);
  for (int i = 0; i < 7; i++) put_null(&v);
  if (kit_call(k, &r, &v, STATEMENT_QUEUE_SAVE, false)) kit_die("queue");
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
  if (run_end(w, &b)) kit_die("memory");
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

static void put_push_run(const pack *p, values *v, size_t n, size_t body) {
  put_int2(v, 0);
  put_int8(v, 7);
  put_int8(v, (int64_t)(n * body));
  put_bool(v, false);
  put_int8(v, (int64_t)p->first[0]);
  put_int4(v, (int64_t)n);
  put_bytes(v, p->bytes[0]);
}

static void put_push(const pack *p, values *v, size_t n, size_t body,
                     const kit_push *o) {
  put_int2(v, o->priority);
  put_int8(v, o->delay);
  put_null(v);
  put_unless_0(v, o->ttl);
  put_int8(v, 7);
  put_int4(v, o->attempts);
  put_null(v);
  put_int2(v, 0);
  put_int8(v, (int64_t)(n * body));
  put_text(v, o->key);
  put_int2(v, o->on_conflict);
  put_int8(v, o->dedup);
  put_unless_0(v, (int64_t)o->owner);
  put_unless_0(v, (int64_t)o->token);
  put_bool(v, false);
  put_int8(v, (int64_t)n);
  put_int8(v, size_of(p));
  put_runs(v, p);
  put_null(v);
}

static bool is_plain(const pack *p, const kit_push *o) {
  return p->count == 1 && !o->no_call && !o->priority && !o->delay &&
         !o->ttl && !o->attempts && !o->key && !o->owner;
}

int kit_push_items(kit *k, int queue, size_t n, const kit_push *o,
                   uint64_t *first) {
  static const kit_push plain;
  pack *p = malloc(sizeof *p);
  values v;
  request r;
  call c = {.n = 1, .requests = &r};
  uint64_t id;
  if (!o) o = &plain;
  c.changes = !o->no_call;
  p->count = 0;
  if (session_ids(&k->s, n, &id)) kit_die("ids");
  pack_items(p, id, n, o);
  bool one = is_plain(p, o);
  values_init(&v);
  put_int4(&v, queue);
  put_int4(&v, session_slot(&k->s));
  kit_put_wall(k, &v);
  if (o->no_call) {
    put_null(&v);
    put_null(&v);
  } else {
    call_put(&c, &v, true);
  }
  if (one)
    put_push_run(p, &v, n, o->body ? o->body : 8);
  else
    put_push(p, &v, n, o->body ? o->body : 8, o);
  r = (request){.statement = one ? STATEMENT_PUSH_RUN : STATEMENT_PUSH,
                .values = &v};
  int rc = call_run(&k->s, &c);
  kit_why = c.why;
  if (!rc && first)
    *first = c.resolved ? (uint64_t)c.answer[0]
                        : (uint64_t)value_element(r.result, 0, 0, 0);
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
  if (!v) kit_die("memory");
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
  if (!taken_head_read(r, &b->head)) kit_die("head");
  b->n_runs = b->n = b->damaged = 0;
  b->n_crashed = b->n_expired = 0;
  b->runs = grow(b->runs, &b->cap_runs, (size_t)n, sizeof *b->runs);
  for (int i = 0; i < n; i++)
    if (taken_read(r, i, &b->runs[b->n_runs].t))
      b->n_runs++;
    else if (i)
      kit_die("row");
  qsort(b->runs, b->n_runs, sizeof *b->runs, by_place);
  for (size_t i = 0; i < b->n_runs; i++) {
    b->n_crashed += b->runs[i].t.kind == TAKEN_CRASHED;
    b->n_expired += b->runs[i].t.kind == TAKEN_EXPIRED;
    add_items(b, &b->runs[i]);
  }
}

static void put_token(kit *k, values *v) {
  uint64_t token;
  if (session_token(&k->s, 0, &token)) kit_die("token");
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
  kit_put_wall(k, &v);
  put_int4(&v, want);
  put_unless_0(&v, o->bytes);
  put_unless_0(&v, o->lease);
  marks_put(&v, o->marks, o->marks ? o->how : LOOK_ALL);
  put_null(&v);
  put_token(k, &v);
  int64_t sent = clock_mono() - o->late;
  int rc = kit_call(k, &r, &v, STATEMENT_TAKE, false);
  if (!rc) kit_read_batch(r.result, b);
  if (!rc && o->marks) marks_keep(o->marks, r.result, o->how, sent);
  request_clear(&r);
  values_free(&v);
  return rc;
}

void kit_batch_free(kit_batch *b) {
  free(b->runs);
  free(b->ids);
  memset(b, 0, sizeof *b);
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
  kit_die(sql);
  return 0;
}

size_t kit_check(kit *k) {
  values v;
  request r;
  values_init(&v);
  if (kit_call(k, &r, &v, STATEMENT_CHECK, false)) kit_die("check");
  int n = pq.ntuples(r.result);
  for (int i = 0; i < n && i < 10; i++)
    printf("check: %s\n", pq.getvalue(r.result, i, 0));
  request_clear(&r);
  return (size_t)n;
}

/* SPDX-License-Identifier: MIT */
/*
 * Settles of the kit; see kit.h.
 */
#include "kit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The arguments that every settle begins with. */
static void begin_settle(kit *k, int queue, call *c, values *v) {
  values_init(v);
  put_int4(v, queue);
  put_int4(v, session_slot(&k->s));
  kit_put_wall(k, v);
  call_put(c, v, true);
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

enum statement kit_put_done(const kit *k, values *v, const kit_batch *b) {
  bool one = b->n_runs == 1 && !k->keep;
  put_int8(v, (int64_t)b->head.token);
  if (!one) put_bool(v, k->keep);
  put_bool(v, false);
  if (!one) {
    put_bool(v, false);
    kit_put_runs(v, b);
  } else {
    put_int8(v, (int64_t)b->runs[0].t.first);
    put_int4(v, b->runs[0].t.live);
  }
  return one ? STATEMENT_DONE_RUN : STATEMENT_DONE;
}

size_t kit_done(kit *k, int queue, const kit_batch *b) {
  values v;
  request r = {.values = &v};
  call c = {.n = 1, .changes = true, .requests = &r};
  begin_settle(k, queue, &c, &v);
  r.statement = kit_put_done(k, &v, b);
  if (call_run(&k->s, &c)) kit_die("done");
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

/* SPDX-License-Identifier: MIT */
#include "postgres/queue/flow.h"

/* The meaning of an outcome, as v1_flow_note has it. */
enum { SAYS_DONE, SAYS_OUTAGE, SAYS_NOTHING, SAYS_HOLD };

/* The outcomes of a batch that are to be noted, one by one. */
typedef struct outcomes {
  const settle_req *r;
  bool breaker;
  size_t claim, item; /* the next */
  const batch_claim *of;
  const mark *m;
  int says;
} outcomes;

static int says(const mark *m) {
  if (m->kind == RESPOOL_DONE) return SAYS_DONE;
  if (m->kind == RESPOOL_RETRY && m->outage) return SAYS_OUTAGE;
  return m->kind == RESPOOL_HOLD && m->delay > 0 ? SAYS_HOLD : SAYS_NOTHING;
}

static bool is_marked(const settle_req *r, size_t i, const mark *m) {
  return m->kind && !batch_is_over(r->batch, i);
}

static bool next_claim(outcomes *o) {
  const respool_batch *b = o->r->batch;
  while (o->claim < b->n_claims) {
    o->of = &b->claims[o->claim++];
    o->item = o->of->from;
    o->says = -1;
    if (!o->of->over) return true;
  }
  return false;
}

/* The next; where one done comes after another of its claim, it says nothing
   new. */
static bool next_outcome(outcomes *o) {
  for (;;) {
    while (!o->of || o->item == o->of->to)
      if (!next_claim(o)) return false;
    size_t i = o->item++;
    int before = o->says;
    o->m = o->r->marks ? &o->r->marks[i] : &o->r->all;
    if (!is_marked(o->r, i, o->m)) continue;
    o->says = says(o->m);
    if (o->says == SAYS_HOLD) return true;
    if (o->breaker && !(o->says == SAYS_DONE && before == SAYS_DONE))
      return true;
  }
}

static uint64_t id_of(const outcomes *o) {
  return o->r->batch->page.items[o->item - 1].id;
}

static respool_bytes text_of(const mark *m) {
  respool_bytes error = {"", 0};
  if (m->text && m->text->error.size) error = m->text->error;
  return phrase_cut(error, RESPOOL_REASON_MAX);
}

#define EACH(v, type, all, n, put) do { \
    outcomes o = *(all); \
    array_begin(v, type, n); \
    while (next_outcome(&o)) put; \
    array_end(v); \
  } while (0)

void flow_note_plan(plan *p, const pg_queue *q, const settle_req *r) {
  const outcomes all = {.r = r, .breaker = config_has_breaker(&q->config)};
  outcomes counted = all;
  size_t n = 0;
  while (next_outcome(&counted)) n++;
  if (!n) return;
  values *v = plan_add(p, STATEMENT_FLOW_NOTE, NULL);
  put_int4(v, q->id);
  plan_put_wall(p, v);
  put_int4(v, q->version);
  put_int8(v, (int64_t)r->batch->token);
  EACH(v, TYPE_INT4, &all, n, add_int4(v, o.of->excuse));
  EACH(v, TYPE_INT8, &all, n, add_int8(v, (int64_t)o.of->first));
  EACH(v, TYPE_INT4, &all, n, add_int4(v, o.says));
  EACH(v, TYPE_INT8, &all, n, add_int8(v, (int64_t)id_of(&o)));
  EACH(v, TYPE_INT8, &all, n, add_int8(v, o.m->delay));
  EACH(v, TYPE_BYTEA, &all, n, add_bytes(v, text_of(o.m)));
}

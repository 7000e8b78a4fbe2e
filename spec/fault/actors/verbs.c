/* SPDX-License-Identifier: MIT */
/*
 * What all actors do; see verbs.h.
 */
#include "verbs.h"

#include <stdio.h>
#include <stdlib.h>

void act_must(const actor *a, int rc, const char *call) {
  a->m->beats[a->slot]++;
  if (!rc) return;
  fprintf(stderr, "%s, seed %llu: %s: %s, %s\n", a->kind,
          (unsigned long long)a->seed, call, respool_errname(rc),
          respool_error_text());
  abort();
}

bool act_going(const actor *a, int round, int rounds) {
  return round < rounds && !a->m->stop && a->m->n_tags < TAGS / 2;
}

/* splitmix64, Steele et al. 2014. */
unsigned act_chance(actor *a, unsigned n) {
  uint64_t z = (a->chance += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return (unsigned)((z ^ (z >> 31)) % n);
}

/* ---- a verb on several tags --------------------------------------------- */

moved moved_together(actor *a) {
  return (moved){.a = a, .unit = model_unit(a->m)};
}

moved moved_apart(actor *a) {
  return (moved){.a = a};
}

void moved_add(moved *v, uint32_t tag, int place, uint64_t attempts) {
  stage to = {v->unit, (uint8_t)place, (uint8_t)attempts};
  v->of[v->n].tag = tag;
  v->of[v->n].id = 0;
  v->of[v->n++].index = model_begin(v->a->m, tag, to);
}

void moved_ack(const moved *v) {
  for (int i = 0; i < v->n; i++)
    model_ack(v->a->m, v->of[i].tag, v->of[i].index, v->of[i].id);
}

/* ---- opening ------------------------------------------------------------ */

void act_open(actor *a) {
  respool_options o = RESPOOL_OPTIONS_INIT;
  o.sync = a->sync;
  o.manual_clock = 1;
  o.seed = a->seed;
  a->chance = a->seed;
  MUST(a, respool_open(a->path, &o, &a->s));
  model_opened(a->m, respool_now(a->s));
}

static respool_queue_options policy(void) {
  static const respool_backoff soon = {.kind = RESPOOL_BACKOFF_CONSTANT,
                                       .initial = 1000, .max = 1000};
  respool_queue_options o = RESPOOL_QUEUE_OPTIONS_INIT;
  o.lease = 7 * (int64_t)DAY;
  o.max_attempts = TRIES;
  o.backoff = &soon;
  return o;
}

respool_queue *act_queue(actor *a, int place) {
  respool_queue_options o = policy();
  respool_queue *q;
  if (place == SHORT) o.ttl = 1000;
  if (place == KEPT) {
    o.keep_done = 5000;
    o.keep_dead = 10000;
  }
  MUST(a, respool_queue_open(a->s, place_name(place), &o, &q));
  return q;
}

/* ---- pushing ------------------------------------------------------------ */

void moved_pack(moved *v, parcel *p, int n, int place) {
  for (int i = 0; i < n; i++) {
    uint32_t tag = model_tag(v->a->m);
    size_t size = body_make(tag, p->bodies[i]);
    p->items[i] = (respool_payload){.body = {p->bodies[i], size}};
    moved_add(v, tag, place, 0);
  }
}

uint64_t act_push(actor *a, respool_queue *q, int place, int n,
                  int64_t delay) {
  parcel p;
  moved v = moved_together(a);
  respool_push_options o = RESPOOL_PUSH_OPTIONS_INIT;
  respool_result r = RESPOOL_RESULT_INIT;
  o.delay = delay;
  moved_pack(&v, &p, n, place);
  if (a->boast) moved_ack(&v);
  MUST(a, respool_push(q, p.items, (size_t)n, &o, &r));
  for (int i = 0; i < n; i++) v.of[i].id = r.first + (unsigned)i;
  moved_ack(&v);
  return r.first;
}

/* ---- taking and settling ------------------------------------------------ */

respool_batch *act_take(actor *a, respool_queue *q, int n) {
  respool_take_options o = RESPOOL_TAKE_OPTIONS_INIT;
  respool_batch *batch;
  o.items = (uint64_t)n;
  MUST(a, respool_take(q, &o, &batch));
  return batch;
}

void moved_outcome(moved *v, const respool_item *it, int place, int kind) {
  uint32_t tag = body_tag(it->body);
  uint64_t attempts = it->about->attempts;
  if (kind == RESPOOL_RETRY && ++attempts == TRIES)
    kind = RESPOOL_DEAD;
  if (kind == RESPOOL_DEAD)
    moved_add(v, tag, DLQ | place, ANY);
  else if (kind == RESPOOL_DONE && place == KEPT)
    moved_add(v, tag, DONE | place, ANY);
  else if (kind == RESPOOL_DONE || kind == RESPOOL_DROP)
    moved_add(v, tag, GONE, 0);
  else
    moved_add(v, tag, place, attempts);
}

void act_mark(moved *v, respool_batch *batch, size_t i, int place, int kind) {
  respool_outcome o = RESPOOL_OUTCOME_INIT;
  uint8_t body[BODY_MAX];
  uint32_t tag = body_tag(respool_batch_item(batch, i)->body);
  o.kind = kind;
  if (kind == RESPOOL_DONE && place == KEPT) o.result = body_result(tag, body);
  o.error = respool_text(kind == RESPOOL_DONE ? NULL : "went wrong");
  o.group = respool_text(kind == RESPOOL_DEAD ? "hopeless" : NULL);
  if (kind == RESPOOL_SNOOZE) o.delay = 500;
  moved_outcome(v, respool_batch_item(batch, i), place, kind);
  MUST(v->a, respool_batch_mark(batch, i, &o));
}

respool_batch *act_finish(actor *a, respool_batch *batch, int n) {
  respool_settle_options o = RESPOOL_SETTLE_OPTIONS_INIT;
  respool_take_options more = RESPOOL_TAKE_OPTIONS_INIT;
  respool_batch *next = NULL;
  moved v = moved_together(a);
  more.items = (uint64_t)n;
  o.take = n ? &more : NULL;
  for (size_t i = 0; i < respool_batch_length(batch); i++)
    act_mark(&v, batch, i, 0, RESPOOL_DONE);
  MUST(a, respool_batch_settle(batch, &o, &next));
  moved_ack(&v);
  respool_batch_free(batch);
  return next;
}

void act_drain(actor *a, respool_queue *q, int n) {
  for (respool_batch *batch = act_take(a, q, n); batch;) batch =
      act_finish(a, batch, n);
}

/* SPDX-License-Identifier: MIT */
/*
 * Settling a batch: its marks in one commit, with what is pushed and taken in
 * the same; at once, by ticket, or for an abandoned batch.
 */
#include "verbs/consume/settle.h"

#include <stdlib.h>
#include <string.h>

#include "verbs/produce/push.h"

static const respool_settle_options defaults = RESPOOL_SETTLE_OPTIONS_INIT;

/* The steps are the settle, the pushes, and the take, if there is one. */
typedef struct settling {
  unit unit;
  respool_batch *batch;
  respool_queue *queue; /* its */
  step plain;         /* of a settle alone */
  builder *builders;  /* of the pushes, and why they were refused */
  refusal *refusals;
  size_t n_pushes;
  respool_batch *next; /* NULL: take nothing */
  size_t lost;         /* once the result was noted */
} settling;

static void settle_init(settling *p, respool_batch *batch, mark all,
                        const mark *marks) {
  batch->n_refused = 0;
  p->batch = batch;
  p->queue = batch->queue;
  p->plain = (step){.kind = STEP_SETTLE,
                    .name = batch->queue->name,
                    .settle = {.batch = batch,
                               .marks = marks,
                               .all = all,
                               .random = &batch->queue->store->random,
                               .notices = queue_notices(batch->queue)}};
  p->unit.steps = &p->plain;
  p->unit.n = 1;
}

/* ---- pushes and a take beside it ---------------------------------------- */

static step handover_step(settling *p, const respool_handover *h, size_t i,
                          const respool_push_options *o) {
  step s = push_step(h->queue, &p->builders[i], h->items->key, o);
  s.append.refusal = &p->refusals[i];
  if (h->item) {
    s.append.owner = batch_claim_of(p->batch, h->item - 1);
    s.append.owner_mark = &p->batch->marks[h->item - 1];
  }
  return s;
}

static int add_push(settling *p, const respool_handover *h) {
  static const respool_push_options plain = RESPOOL_PUSH_OPTIONS_INIT;
  const respool_push_options *o = h->options ? h->options : &plain;
  respool *s = p->batch->queue->store;
  size_t i = p->n_pushes;
  if (!h->queue || h->queue->store->env != s->env)
    return invalid("push", "to a queue of the same store");
  if (h->item > p->batch->page.n)
    return invalid("push", "of an item of the batch");
  if (!h->item) p->unit.steps->settle.strict = true;
  p->n_pushes++;
  int rc = push_build(s, h->items, h->n, o, &p->builders[i]);
  if (!rc) p->unit.steps[p->unit.n++] = handover_step(p, h, i, o);
  if (rc != RESPOOL_TOO_LARGE) return rc;
  refusal_note(&p->refusals[i], rc);
  return 0;
}

static int make_steps(settling *p, const respool_settle_options *o) {
  step *steps = calloc(o->n_pushes + 2, sizeof *steps);
  p->builders = calloc(o->n_pushes + 1, sizeof *p->builders);
  p->refusals = calloc(o->n_pushes + 1, sizeof *p->refusals);
  if (!steps || !p->builders || !p->refusals) {
    free(steps);
    return fail(RESPOOL_NOMEM, "not enough memory to settle");
  }
  *steps = p->plain;
  p->unit.steps = steps;
  return 0;
}

static int copy_refusal(arena *a, size_t push, const refusal *r,
                        respool_refusal *to) {
  const char *text = r->failure.text;
  respool_bytes copy;
  if (arena_copy(a, (respool_bytes){text, strlen(text) + 1}, &copy))
    return fail(RESPOOL_NOMEM, "not enough memory to settle");
  *to = (respool_refusal){push, r->rc, copy.data};
  return 0;
}

/* Notes in the batch which pushes were refused; returns the first refusal, or
   0 when there are none. */
static int note_refusals(settling *p) {
  respool_batch *batch = p->batch;
  arena *a = &batch->page.memory;
  int first = 0, rc = 0;
  for (size_t i = 0; i < p->n_pushes && !rc; i++) {
    const refusal *r = &p->refusals[i];
    if (!r->rc) continue;
    if (!first) batch->refused = arena_alloc(a, p->n_pushes *
                                             sizeof *batch->refused);
    if (!batch->refused) return fail(RESPOOL_NOMEM, "not enough memory");
    if (!first) failure_tell(&r->failure);
    if (!first) first = r->rc;
    rc = copy_refusal(a, i, r, &batch->refused[batch->n_refused]);
    if (!rc) batch->n_refused++;
  }
  return rc ? rc : first;
}

static int add_pushes(settling *p, const respool_settle_options *o) {
  int rc = make_steps(p, o);
  for (size_t i = 0; i < o->n_pushes && !rc; i++)
    rc = add_push(p, &o->pushes[i]);
  return rc ? rc : note_refusals(p);
}

static int add_steps(settling *p, const respool_settle_options *o) {
  if (!o->n_pushes && !o->take) return 0;
  int rc = add_pushes(p, o);
  if (rc || !o->take) return rc;
  p->next = batch_new(p->queue);
  if (!p->next) return RESPOOL_NOMEM;
  p->unit.steps[p->unit.n++] = take_step(o->take, p->next);
  return 0;
}

static void free_steps(settling *p) {
  for (size_t i = 0; i < p->n_pushes; i++) builder_free(&p->builders[i]);
  free(p->builders);
  free(p->refusals);
  if (p->unit.steps != &p->plain) free(p->unit.steps);
}

static int settle_prepare(settling *p, respool_batch *batch,
                          const respool_settle_options *o) {
  settle_init(p, batch, (mark){.kind = RESPOOL_NONE}, batch->marks);
  p->unit.durable = !o->no_wait;
  return add_steps(p, o);
}

/* ---- at once ------------------------------------------------------------ */

static int settle_run(settling *p, const respool_settle_options *o,
                      respool_batch **next) {
  int rc = settle_prepare(p, p->batch, o);
  if (!rc) {
    rc = store_commit(p->queue->store, &p->unit);
    if (rc) note_refusals(p);
  }
  if (rc)
    respool_batch_free(p->next);
  else {
    batch_close_claims(p->batch, p->batch->marks);
    (void)batch_ready(&p->next, true); /* or nothing was taken */
    if (next) *next = p->next;
  }
  free_steps(p);
  return rc;
}

/* Waits until no ticket uses the batch. */
static void settle_await(respool_batch *batch) {
  if (batch && !queue_check(batch->queue) && batch->ticket)
    ticket_await(batch->ticket);
}

static int settle_check(respool_batch *batch, const respool_settle_options *o) {
  int rc = batch_check(batch);
  if (!rc) rc = SIZE_CHECK(o, RESPOOL_SETTLE_OPTIONS_INIT);
  return !rc && o->take ? take_check(o->take) : rc;
}

int respool_batch_settle(respool_batch *batch, const respool_settle_options *o,
                         respool_batch **next) {
  if (!o) o = &defaults;
  settle_await(batch);
  int rc = settle_check(batch, o);
  if (!rc && o->take && !next) rc = invalid("next", "given with take");
  if (rc) return rc;
  settling p = {.batch = batch};
  rc = settle_run(&p, o, next);
  if (rc || !batch->lost) return rc;
  return batch_lost_error(batch->queue->name, batch->lost);
}

/* ---- by ticket ---------------------------------------------------------- */

static void apply_settle(respool_ticket *t) {
  settling *p = (settling *)t->unit;
  if (!t->unit->rc) {
    batch_close_claims(p->batch, p->batch->marks);
    p->lost = p->batch->lost;
  } else
    note_refusals(p);
  batch_detach(p->batch);
}

static int finish_settle(respool_ticket *t, respool_result *out) {
  settling *p = (settling *)t->unit;
  respool_batch *next = p->next;
  p->next = NULL;
  (void)batch_ready(&next, false);
  out->batch = next;
  return p->lost ? batch_lost_error(p->queue->name, p->lost) : 0;
}

static void dispose_settle(respool_ticket *t) {
  settling *p = (settling *)t->unit;
  free_steps(p);
  if (t->started && !t->unit->rc)
    batch_abandon(p->next);
  else
    respool_batch_free(p->next);
}

/* Copies the borrowed data of pushes for the ticket. */
static int own_pushes(respool_ticket *t, const respool_settle_options *o) {
  settling *p = (settling *)t->unit;
  int rc = 0;
  for (size_t i = 0; i < p->n_pushes && !rc; i++) {
    rc = queue_pin(t, o->pushes[i].queue);
    if (!rc) rc = ticket_copy(t, &p->unit.steps[1 + i].append.key);
  }
  return rc;
}

static int start_settle(respool_ticket *t, respool_batch *batch,
                        const respool_settle_options *o) {
  settling *p = (settling *)t->unit;
  t->dispose = dispose_settle;
  int rc = settle_prepare(p, batch, o);
  if (!rc) rc = own_pushes(t, o);
  if (!rc) rc = store_start(t);
  if (rc) return rc;
  t->apply_result = apply_settle;
  t->finish = finish_settle;
  batch_attach(batch, t);
  return 0;
}

int respool_batch_settle_start(respool_batch *batch,
                               const respool_settle_options *o,
                               respool_ticket **out) {
  if (!o) o = &defaults;
  int rc = settle_check(batch, o);
  if (rc) return rc;
  respool_ticket *t = queue_ticket(batch->queue, sizeof(settling));
  if (!t) return RESPOOL_NOMEM;
  return ticket_give(t, start_settle(t, batch, o), out);
}

/* ---- of an abandoned batch ---------------------------------------------- */

static void apply_release(respool_ticket *t) {
  batch_detach(((settling *)t->unit)->batch);
}

/* In the background. Where it cannot be released, its lease runs out. */
static void release(respool_batch *batch) {
  respool_ticket *t = queue_ticket(batch->queue, sizeof(settling));
  if (!t) {
    batch_destroy(batch);
    return;
  }
  settling *p = (settling *)t->unit;
  settle_init(p, batch, (mark){.kind = RESPOOL_RELEASE}, NULL);
  p->unit.now = store_time(batch->queue->store);
  t->apply_result = apply_release;
  batch->ticket = t;
  batch->doomed = true;
  ticket_start_orphan(t);
}

void batch_abandon(respool_batch *batch) {
  if (batch && batch->page.n)
    release(batch);
  else
    respool_batch_free(batch);
}

static void abandon(respool_batch *batch) {
  env *e = batch->queue->store->env;
  commit_lock(e);
  batch_abandon(batch);
  commit_unlock(e);
}

static void release_now(respool_batch *batch) {
  settling p = {.batch = batch};
  settle_init(&p, batch, (mark){.kind = RESPOOL_RELEASE}, NULL);
  (void)store_commit(batch->queue->store, &p.unit);
  batch_destroy(batch);
}

int batch_ready(respool_batch **batch, bool may_wait) {
  respool_batch *b = *batch;
  int rc = b ? batch_make_marks(b) : 0;
  if (!rc && b && b->page.n) return 0;
  if (!rc)
    respool_batch_free(b);
  else if (may_wait)
    release_now(b);
  else
    abandon(b);
  *batch = NULL;
  return rc;
}

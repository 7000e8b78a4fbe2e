/* SPDX-License-Identifier: MIT */
/*
 * Settling a batch: its marks in one commit, with what is pushed and taken in
 * the same; at once, by ticket, or for a batch that nobody wants any more.
 */
#include "verbs/store.h"

#include <stdlib.h>
#include <string.h>

typedef struct settle_op {
  op op;
  respool_queue *q;
  settle_req req;
  const respool_handover *pushes;
  append_req *appends;
  builder *builders;
  size_t n_pushes;
  claim_req take;
  respool_batch *next; /* NULL: take nothing */
} settle_op;

/* ---- its pushes --------------------------------------------------------- */

/* Is it the fault of one push? Any other error would be that of all. */
static bool is_refusal(int rc) {
  return rc == RESPOOL_EXISTS || rc == RESPOOL_FULL ||
         rc == RESPOOL_NOT_FOUND || rc == RESPOOL_TOO_LARGE;
}

/* Notes that push `i` was refused, in the words of the last error. */
static int note_refusal(settle_op *p, size_t i, int rc) {
  respool_batch *batch = p->req.batch;
  arena *a = &batch->page.memory;
  const char *text = respool_error_text();
  respool_bytes copy;
  if (!batch->n_refused)
    batch->refused = arena_alloc(a, p->n_pushes * sizeof *batch->refused);
  if (!batch->refused ||
      arena_copy(a, (respool_bytes){text, strlen(text) + 1}, &copy))
    return fail(RESPOOL_NOMEM, "not enough memory for a batch");
  batch->refused[batch->n_refused++] = (respool_refusal){i, rc, copy.data};
  return 0;
}

/* 0, or the first refusal as the error of the settle. */
static int refusal_error(const respool_batch *batch) {
  if (!batch->n_refused) return 0;
  return fail(batch->refused[0].code, "%s", batch->refused[0].message);
}

/* Is the lease of the item lost that the push belongs to? */
static bool is_left_out(const settle_op *p, size_t i) {
  size_t owner = p->pushes[i].item;
  return owner && batch_claim_of(p->req.batch, owner - 1)->lost;
}

/* Tries all pushes, also behind one that was refused. */
static int run_pushes(txn *t, settle_op *p, int64_t now) {
  for (size_t i = 0; i < p->n_pushes; i++) {
    if (is_left_out(p, i)) continue;
    int rc = engine_lmdb.append(t, p->pushes[i].queue->name, now,
                                &p->appends[i]);
    if (is_refusal(rc)) rc = note_refusal(p, i, rc);
    if (rc) return rc;
  }
  return refusal_error(p->req.batch);
}

/* ---- the operation ------------------------------------------------------ */

static int run_settle(txn *t, op *o) {
  settle_op *p = (settle_op *)o;
  int64_t now = respool_now(p->q->store);
  p->req.batch->n_refused = 0;
  int rc = engine_lmdb.settle(t, p->q->name, now, &p->req);
  if (!rc) rc = run_pushes(t, p, now);
  if (!rc && p->next)
    rc = engine_lmdb.claim(t, p->q->name, now, &p->take, p->next);
  return rc || !p->next ? rc : batch_make_marks(p->next);
}

static int add_push(settle_op *p, size_t i) {
  static const respool_push_options defaults = RESPOOL_PUSH_OPTIONS_INIT;
  const respool_handover *h = &p->pushes[i];
  const respool_push_options *o = h->options ? h->options : &defaults;
  respool *s = p->q->store;
  if (!h->queue || h->queue->store->env != s->env)
    return invalid("push", "to a queue of the same store");
  if (h->item > p->req.batch->page.n)
    return invalid("push", "of an item of the batch");
  if (!h->item) p->req.strict = true;
  int rc = push_build(s, h->items, h->n, o, &p->builders[i]);
  if (!rc)
    p->appends[i] = push_request(h->queue, &p->builders[i], h->items, o);
  return rc;
}

static void free_pushes(settle_op *p) {
  for (size_t i = 0; p->builders && i < p->n_pushes; i++)
    builder_free(&p->builders[i]);
  free(p->builders);
  free(p->appends);
}

static int add_pushes(settle_op *p, const respool_settle_options *o) {
  int rc = 0;
  if (!o->n_pushes) return 0;
  p->pushes = o->pushes;
  p->builders = calloc(o->n_pushes, sizeof *p->builders);
  p->appends = calloc(o->n_pushes, sizeof *p->appends);
  if (!p->builders || !p->appends)
    return fail(RESPOOL_NOMEM, "not enough memory for a push");
  p->n_pushes = o->n_pushes;
  for (size_t i = 0; i < o->n_pushes; i++) builder_init(&p->builders[i], 0);
  for (size_t i = 0; i < o->n_pushes && !rc; i++) {
    rc = add_push(p, i);
    if (is_refusal(rc)) rc = note_refusal(p, i, rc);
  }
  return rc ? rc : refusal_error(p->req.batch);
}

static settle_op settle_of(respool_batch *batch) {
  respool_queue *q = batch->queue;
  batch->n_refused = 0;
  return (settle_op){.q = q, .req = {.batch = batch, .marks = batch->marks,
                                     .chance = &q->store->random,
                                     .notices = queue_notices(q)}};
}

/* All that is needed before the operation runs. */
static int settle_prepare(settle_op *p, const respool_settle_options *o) {
  int rc = add_pushes(p, o);
  if (rc || !o->take) return rc;
  p->take = take_request(p->q, o->take);
  p->next = batch_new(p->q);
  return p->next ? 0 : fail(RESPOOL_NOMEM, "not enough memory for a batch");
}

static int settle_run(settle_op *p, const respool_settle_options *o,
                      respool_batch **next) {
  int rc = settle_prepare(p, o);
  if (!rc) rc = store_run(p->q->store, &p->op, run_settle, !o->no_wait);
  free_pushes(p);
  if (rc) {
    respool_batch_free(p->next);
    return rc;
  }
  batch_close_claims(p->req.batch, p->req.batch->marks);
  rc = batch_ready(&p->next);
  if (!rc && next) *next = p->next;
  return rc;
}

/* Who may wait does so for a ticket that is at work on the batch. */
static void settle_await(respool_batch *batch) {
  if (batch && !queue_check(batch->queue) && batch->ticket)
    ticket_await(batch->ticket);
}

static int settle_check(respool_batch *batch, const respool_settle_options *o) {
  int rc = batch_check(batch);
  if (!rc && o->size != sizeof *o) rc = invalid("size", "set by _INIT");
  return !rc && o->take ? take_check(o->take) : rc;
}

int respool_batch_settle(respool_batch *batch, const respool_settle_options *o,
                       respool_batch **next) {
  static const respool_settle_options defaults = RESPOOL_SETTLE_OPTIONS_INIT;
  if (!o) o = &defaults;
  settle_await(batch);
  int rc = settle_check(batch, o);
  if (!rc && o->take && !next) rc = invalid("next", "given with take");
  if (rc) return rc;
  settle_op p = settle_of(batch);
  rc = settle_run(&p, o, next);
  return !rc && batch->lost ? batch_lost_error(batch->queue, batch->lost) : rc;
}

/* ---- settling by ticket -------------------------------------------------- */

typedef struct settle_ticket {
  settle_op settle;
  size_t lost; /* once it has landed */
} settle_ticket;

static void land_settle(respool_ticket *t) {
  settle_ticket *p = (settle_ticket *)t->op;
  respool_batch *batch = p->settle.req.batch;
  if (!t->op->rc) {
    batch_close_claims(batch, batch->marks);
    p->lost = batch->lost;
  }
  batch_disengage(batch);
}

static int finish_settle(respool_ticket *t, respool_result *out) {
  settle_ticket *p = (settle_ticket *)t->op;
  int rc = batch_ready(&p->settle.next);
  if (rc) return rc;
  out->batch = p->settle.next;
  p->settle.next = NULL;
  return p->lost ? batch_lost_error(p->settle.q, p->lost) : 0;
}

static void dispose_settle(respool_ticket *t) {
  settle_op *p = (settle_op *)t->op;
  free_pushes(p);
  if (t->running && !p->op.rc)
    batch_abandon(p->next);
  else
    respool_batch_free(p->next);
}

/* What the pushes borrow becomes the ticket's own. */
static int own_pushes(respool_ticket *t, settle_op *p) {
  respool_handover *own = arena_alloc(&t->memory, p->n_pushes * sizeof *own);
  int rc = own ? 0 : fail(RESPOOL_NOMEM, "not enough memory for a push");
  for (size_t i = 0; i < p->n_pushes && !rc; i++) {
    own[i] = (respool_handover){.queue = p->pushes[i].queue,
                                .item = p->pushes[i].item};
    rc = ticket_pin(t, own[i].queue);
    if (!rc) rc = ticket_copy(t, &p->appends[i].key);
  }
  p->pushes = own;
  return rc;
}

static int start_settle(respool_ticket *t, respool_batch *batch,
                        const respool_settle_options *o) {
  settle_op *p = (settle_op *)t->op;
  *p = settle_of(batch);
  p->op.ticket = t;
  t->dispose = dispose_settle;
  int rc = settle_prepare(p, o);
  if (!rc) rc = own_pushes(t, p);
  if (!rc) rc = ticket_pin(t, p->q);
  if (!rc) rc = ticket_start(t, run_settle, !o->no_wait);
  if (rc) return rc;
  t->land = land_settle;
  t->finish = finish_settle;
  batch_engage(batch, t);
  return 0;
}

int respool_batch_settle_start(respool_batch *batch,
                             const respool_settle_options *o,
                             respool_ticket **out) {
  static const respool_settle_options defaults = RESPOOL_SETTLE_OPTIONS_INIT;
  if (!o) o = &defaults;
  int rc = settle_check(batch, o);
  if (rc) return rc;
  respool_ticket *t = ticket_new(batch->queue->store, sizeof(settle_ticket));
  if (!t) return RESPOOL_NOMEM;
  rc = start_settle(t, batch, o);
  if (rc)
    ticket_drop(t);
  else
    *out = t;
  return rc;
}

/* Nobody may ask: it is an orphan from the start. */
static int start_release(respool_batch *batch) {
  respool *s = batch->queue->store;
  respool_ticket *t = ticket_new(s, sizeof(settle_ticket));
  if (!t) return RESPOOL_NOMEM;
  settle_op *p = (settle_op *)t->op;
  *p = settle_of(batch);
  p->op.ticket = t;
  p->op.run = run_settle;
  if (ticket_pin(t, p->q)) {
    arena_free(&t->memory);
    free(t);
    return RESPOOL_NOMEM;
  }
  t->refs = 0;
  t->running = t->orphan = true;
  t->land = land_settle;
  t->dispose = dispose_settle;
  batch->ticket = t;
  batch->doomed = true;
  commit_start_locked(s->env, t->op, &s->running);
  return 0;
}

void batch_abandon(respool_batch *batch) {
  if (batch_ready(&batch) || !batch) return;
  for (size_t i = 0; i < batch->page.n; i++)
    batch->marks[i] = (mark){RESPOOL_RELEASE, false, 0, NULL};
  if (start_release(batch)) batch_destroy(batch); /* its lease runs out */
}

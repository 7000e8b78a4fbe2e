/* SPDX-License-Identifier: MIT */
/*
 * The batch: marking what became of its items, extending its lease.
 */
#include "verbs/store.h"

#include <stdlib.h>
#include <string.h>

int batch_check(respool_batch *batch) {
  if (!batch) return fail(RESPOOL_INVALID, "the batch is NULL");
  int rc = queue_check(batch->queue);
  return !rc && batch->ticket ? ticket_landed(batch->ticket, "batch") : rc;
}

/* ---- making and freeing ------------------------------------------------- */

respool_batch *batch_new(respool_queue *q) {
  respool_batch *batch = calloc(1, sizeof *batch);
  if (batch) batch->queue = q;
  return batch;
}

void batch_destroy(respool_batch *batch) {
  batch_clear(batch);
  free(batch->claims);
  free(batch);
}

void respool_batch_free(respool_batch *batch) {
  if (!batch) return;
  respool_batch_unkeep(batch);
  if (!batch->ticket) {
    batch_destroy(batch);
    return;
  }
  batch->doomed = true;
  if (!store_check(batch->queue->store)) ticket_drop(batch->ticket);
}

void batch_engage(respool_batch *batch, respool_ticket *t) {
  batch->ticket = t;
  t->refs++;
}

void batch_disengage(respool_batch *batch) {
  respool_ticket *t = batch->ticket;
  batch->ticket = NULL;
  if (batch->doomed)
    batch_destroy(batch);
  else
    t->refs--;
}

int batch_make_marks(respool_batch *batch) {
  if (!batch->page.n || batch->marks) return 0;
  batch->marks = calloc(batch->page.n, sizeof *batch->marks);
  return batch->marks ? 0
      : fail(RESPOOL_NOMEM, "not enough memory for a batch");
}

int batch_ready(respool_batch **batch) {
  respool_batch *l = *batch;
  int rc = l ? batch_make_marks(l) : 0;
  if (!rc && (!l || l->page.n)) return 0;
  respool_batch_free(l);
  *batch = NULL;
  return rc;
}

/* ---- marking ------------------------------------------------------------ */

size_t respool_batch_length(const respool_batch *batch) {
  return batch ? batch->page.n : 0;
}

const respool_item *respool_batch_item(const respool_batch *batch, size_t i) {
  return batch ? respool_page_item(&batch->page, i) : NULL;
}

static int outcome_check(const respool_outcome *o) {
  if (o->size != sizeof *o) return invalid("outcome.size", "set by _INIT");
  if (o->kind < RESPOOL_NONE || o->kind > RESPOOL_DROP)
    return invalid("kind", "one of enum respool_outcome_kind");
  if (o->kind == RESPOOL_SNOOZE && o->delay < 0)
    return invalid("delay", "0 or more");
  if (o->delay < 0 && o->delay != RESPOOL_KEEP)
    return invalid("delay", "0 or more");
  if (o->memo.size > RESPOOL_MEMO_MAX)
    return invalid("memo", "at most 4096 bytes");
  if (o->dlq) return name_check(o->dlq, "dlq");
  if (o->reason) return name_check(o->reason, "reason");
  return 0;
}

static int copy_text(arena *a, respool_bytes text, respool_bytes *to) {
  return arena_copy(a, phrase_cut(text, FAILURE_TEXT), to);
}

static int copy_name(arena *a, const char *name, const char **to) {
  if (!name) return 0;
  respool_bytes copy, b = {name, strlen(name) + 1};
  int rc = arena_copy(a, b, &copy);
  if (!rc) *to = copy.data;
  return rc;
}

/* The words of an outcome into the batch; NULL in `*out` when it has none. */
static int copy_why(respool_batch *batch, const respool_outcome *o,
                    const why **out) {
  arena *a = &batch->page.memory;
  *out = NULL;
  if (!o->error.size && !o->trace.size && !o->group.size && !o->reason &&
      !o->dlq && !o->memo.size)
    return 0;
  why *w = arena_alloc(a, sizeof *w);
  if (!w) return RESPOOL_NOMEM;
  memset(w, 0, sizeof *w);
  int rc = copy_text(a, o->error, &w->error);
  if (!rc) rc = copy_text(a, o->trace, &w->trace);
  if (!rc) rc = copy_text(a, o->group, &w->group);
  if (!rc) rc = arena_copy(a, o->memo, &w->memo);
  if (!rc) rc = copy_name(a, o->reason, &w->reason);
  if (!rc) rc = copy_name(a, o->dlq, &w->dlq);
  *out = w;
  return rc;
}

int batch_make_mark(respool_batch *batch, size_t i, const respool_outcome *o,
                  mark *m) {
  const why *w;
  int rc = batch_check(batch);
  if (!rc) rc = outcome_check(o);
  if (rc) return rc;
  if (i >= batch->page.n) return invalid("index", "within the batch");
  if (batch->marks[i].settled) return invalid("item", "not settled yet");
  rc = copy_why(batch, o, &w);
  if (rc) return fail(rc, "not enough memory for an outcome");
  *m = (mark){o->kind, false, o->delay, w};
  return 0;
}

int respool_batch_mark(respool_batch *batch, size_t i,
                       const respool_outcome *o) {
  mark m;
  int rc = batch_make_mark(batch, i, o, &m);
  if (!rc) batch->marks[i] = m;
  return rc;
}

int respool_batch_mark_rest(respool_batch *batch, const respool_outcome *o) {
  const why *w;
  int rc = batch_check(batch);
  if (!rc) rc = outcome_check(o);
  if (!rc) rc = copy_why(batch, o, &w);
  if (rc) return rc;
  for (size_t i = 0; i < batch->page.n; i++)
    if (!batch->marks[i].settled && batch->marks[i].kind == RESPOOL_NONE)
      batch->marks[i] = (mark){o->kind, false, o->delay, w};
  return 0;
}

int respool_batch_outcome(const respool_batch *batch, size_t i) {
  return batch && i < batch->page.n ? batch->marks[i].kind : RESPOOL_NONE;
}

int respool_batch_settled(const respool_batch *batch, size_t i) {
  return batch && i < batch->page.n && batch->marks[i].settled;
}

size_t respool_batch_lost(const respool_batch *batch) {
  return batch ? batch->lost : 0;
}

const respool_refusal *respool_batch_refused(const respool_batch *batch,
                                             size_t *n) {
  *n = batch ? batch->n_refused : 0;
  return *n ? batch->refused : NULL;
}

void respool_batch_observe(respool_batch *batch, uint64_t us) {
  if (batch) histogram_add(&batch->observed, us, 1);
}

const batch_claim *batch_claim_of(const respool_batch *batch, size_t i) {
  const batch_claim *h = batch->claims;
  while (i >= h->to) h++;
  return h;
}

/* ---- after a settle ----------------------------------------------------- */

void batch_close_claims(respool_batch *batch, const mark *marks) {
  for (size_t i = 0; i < batch->n_claims; i++) {
    batch_claim *h = &batch->claims[i];
    size_t left = 0;
    for (size_t k = h->from; k < h->to; k++) {
      mark *m = &batch->marks[k];
      if (marks[k].kind && !h->lost && !h->over && !m->settled) {
        *m = marks[k];
        m->settled = true;
      }
      left += !m->settled;
    }
    if (h->lost || !left) h->over = true;
  }
  memset(&batch->observed, 0, sizeof batch->observed);
}

int batch_lost_error(const respool_queue *q, size_t lost) {
  return fail(RESPOOL_LEASE_LOST, "the lease of %zu item%s of queue "
              "\"%.120s\" is no longer held", lost, lost == 1 ? "" : "s",
              q->name);
}

/* ---- extending ---------------------------------------------------------- */

typedef struct extend_op {
  op op;
  respool_queue *q;
  int64_t lease;
  uint64_t token;
  batch_claim *claims;
  size_t n;
} extend_op;

static int run_extend(txn *t, op *o) {
  extend_op *p = (extend_op *)o;
  return engine_lmdb.extend(t, p->q->name, respool_now(p->q->store),
                            p->lease, p->token, p->claims, p->n);
}

int batch_extend_claims(respool_queue *q, int64_t lease, uint64_t token,
                     batch_claim *claims, size_t n, bool durable) {
  extend_op o = {.q = q, .lease = lease, .token = token, .claims = claims,
                 .n = n};
  return store_run(q->store, &o.op, run_extend, durable);
}

static size_t count_lost(const respool_batch *batch) {
  size_t n = 0;
  for (size_t i = 0; i < batch->n_claims; i++)
    for (size_t k = batch->claims[i].from; k < batch->claims[i].to; k++)
      n += batch->claims[i].lost && !batch->marks[k].settled;
  return n;
}

static int extend_check(respool_batch *batch, int64_t ms) {
  int rc = batch_check(batch);
  if (!rc && ms != RESPOOL_KEEP && (ms < 1 || ms > LEASE_MAX))
    rc = invalid("lease", "1 ms to 7 days");
  return rc;
}

int respool_batch_extend(respool_batch *batch, int64_t ms) {
  int rc = extend_check(batch, ms);
  if (rc) return rc;
  rc = batch_extend_claims(batch->queue, ms, batch->token, batch->claims,
                        batch->n_claims, true);
  if (rc) return rc;
  batch->lost = count_lost(batch);
  return batch->lost ? batch_lost_error(batch->queue, batch->lost) : 0;
}

typedef struct extend_ticket {
  extend_op extend;
  respool_batch *batch;
  size_t lost; /* once it has landed */
} extend_ticket;

static void land_extend(respool_ticket *t) {
  extend_ticket *p = (extend_ticket *)t->op;
  if (!t->op->rc) p->batch->lost = p->lost = count_lost(p->batch);
  batch_disengage(p->batch);
}

static int finish_extend(respool_ticket *t, respool_result *out) {
  const extend_ticket *p = (extend_ticket *)t->op;
  (void)out;
  return p->lost ? batch_lost_error(p->extend.q, p->lost) : 0;
}

static int start_extend(respool_ticket *t, respool_batch *batch, int64_t ms) {
  extend_ticket *p = (extend_ticket *)t->op;
  p->batch = batch;
  p->extend = (extend_op){.op = p->extend.op, .q = batch->queue, .lease = ms,
                          .token = batch->token, .claims = batch->claims,
                          .n = batch->n_claims};
  int rc = ticket_pin(t, batch->queue);
  if (!rc) rc = ticket_start(t, run_extend, true);
  if (rc) return rc;
  t->land = land_extend;
  t->finish = finish_extend;
  batch_engage(batch, t);
  return 0;
}

int respool_batch_extend_start(respool_batch *batch, int64_t ms,
                             respool_ticket **out) {
  int rc = extend_check(batch, ms);
  if (rc) return rc;
  respool_ticket *t = ticket_new(batch->queue->store, sizeof(extend_ticket));
  if (!t) return RESPOOL_NOMEM;
  rc = start_extend(t, batch, ms);
  if (rc)
    ticket_drop(t);
  else
    *out = t;
  return rc;
}

/* SPDX-License-Identifier: MIT */
/*
 * The batch: making and freeing it, marking the outcome of its items.
 */
#include "verbs/consume/batch.h"

#include <stdlib.h>
#include <string.h>

int batch_check(respool_batch *batch) {
  if (!batch) return fail(RESPOOL_INVALID, "the batch is NULL");
  int rc = queue_check(batch->queue);
  return !rc && batch->ticket ? ticket_applied(batch->ticket, "batch") : rc;
}

/* ---- making and freeing ------------------------------------------------- */

/* A batch that was destroyed, with its memory; NULL: none is kept. */
static respool_batch *take_kept(respool *s) {
  pthread_mutex_lock(&s->kept.lock);
  respool_batch *b = s->kept.first;
  if (b) {
    s->kept.first = b->next_kept;
    s->kept.bytes -= page_memory(&b->page);
  }
  pthread_mutex_unlock(&s->kept.lock);
  return b;
}

/* Keeps the memory of a batch for those to come: given back to the system, it
   would be faulted in again page by page. False: it is too much. */
static bool keep(respool_batch *batch) {
  kept_batches *k = &batch->store->kept;
  size_t bytes = page_memory(&batch->page);
  if (store_check(batch->store)) return false; /* the parent's */
  pthread_mutex_lock(&k->lock);
  bool room = k->bytes + bytes <= KEPT_MAX;
  if (room) {
    page_reset(&batch->page);
    *batch = (respool_batch){.page = batch->page, .claims = batch->claims,
                             .cap_claims = batch->cap_claims,
                             .next_kept = k->first};
    k->first = batch;
    k->bytes += bytes;
  }
  pthread_mutex_unlock(&k->lock);
  return room;
}

void batch_free_kept(respool *s) {
  kept_batches *k = &s->kept;
  if (pthread_mutex_trylock(&k->lock)) return; /* by a thread before a fork? */
  while (k->first) {
    respool_batch *b = k->first;
    k->first = b->next_kept;
    batch_free_memory(b);
    free(b);
  }
  pthread_mutex_unlock(&k->lock);
}

respool_batch *batch_new(respool_queue *q) {
  respool_batch *batch = take_kept(q->store);
  if (!batch) batch = calloc(1, sizeof *batch);
  if (!batch) {
    fail(RESPOOL_NOMEM, "not enough memory for a batch");
    return NULL;
  }
  batch->queue = q;
  batch->store = q->store;
  return batch;
}

void batch_destroy(respool_batch *batch) {
  if (keep(batch)) return;
  batch_free_memory(batch);
  free(batch);
}

void respool_batch_unkeep(respool_batch *batch) {
  if (!batch || !batch->renewal) return;
  timer *renewal = batch->renewal;
  batch->renewal = NULL;
  if (store_check(batch->queue->store)) return; /* the parent's */
  timers_discard(&batch->queue->store->timers, renewal);
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

void batch_attach(respool_batch *batch, respool_ticket *t) {
  batch->ticket = t;
  t->refs++;
}

void batch_detach(respool_batch *batch) {
  respool_ticket *t = batch->ticket;
  batch->ticket = NULL;
  if (batch->doomed)
    batch_destroy(batch);
  else
    t->refs--;
}

/* ---- what a take asks for ----------------------------------------------- */

int take_check(const respool_take_options *o) {
  int rc = SIZE_CHECK(o, RESPOOL_TAKE_OPTIONS_INIT);
  if (rc) return rc;
  if (o->wait < 0) return invalid("wait", "0 or more");
  if (o->lease != RESPOOL_KEEP && (o->lease < 1 || o->lease > LEASE_MAX))
    return invalid("lease", "1 ms to 7 days");
  if (o->worker > RESPOOL_WORKER_MAX)
    return invalid("worker", "the number of a worker");
  return 0;
}

step take_step(const respool_take_options *o, respool_batch *batch) {
  return (step){.kind = STEP_CLAIM, .name = batch->queue->name,
                .claim = {.items = o->items ? o->items : 1,
                          .bytes = o->bytes, .lease = o->lease,
                          .worker = o->worker,
                          .notices = queue_notices(batch->queue),
                          .batch = batch}};
}

/* ---- marking ------------------------------------------------------------ */

size_t respool_batch_length(const respool_batch *batch) {
  return batch ? batch->page.n : 0;
}

const respool_item *respool_batch_item(const respool_batch *batch, size_t i) {
  return batch ? respool_page_item(&batch->page, i) : NULL;
}

static int outcome_check(const respool_outcome *o) {
  int rc = SIZE_CHECK(o, RESPOOL_OUTCOME_INIT);
  if (rc) return rc;
  if (o->kind < RESPOOL_NONE || o->kind > RESPOOL_HOLD)
    return invalid("kind", "one of enum respool_outcome_kind");
  if ((o->kind == RESPOOL_SNOOZE || o->kind == RESPOOL_HOLD) && o->delay < 0)
    return invalid("delay", "0 or more");
  if (o->delay < 0 && o->delay != RESPOOL_KEEP)
    return invalid("delay", "0 or more");
  if (o->memo.size > RESPOOL_MEMO_MAX)
    return invalid("memo", "at most 4096 bytes");
  if (o->result.size > RESPOOL_RESULT_MAX)
    return invalid("result", "at most 16384 bytes");
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
static int copy_outcome_text(respool_batch *batch, const respool_outcome *o,
                             const outcome_text **out) {
  arena *a = &batch->page.memory;
  *out = NULL;
  if (!o->error.size && !o->trace.size && !o->group.size && !o->reason &&
      !o->dlq && !o->memo.size && !o->result.size)
    return 0;
  outcome_text *w = arena_alloc(a, sizeof *w);
  if (!w) return RESPOOL_NOMEM;
  memset(w, 0, sizeof *w);
  int rc = copy_text(a, o->error, &w->error);
  if (!rc) rc = copy_text(a, o->trace, &w->trace);
  if (!rc) rc = copy_text(a, o->group, &w->group);
  if (!rc) rc = arena_copy(a, o->memo, &w->memo);
  if (!rc) rc = arena_copy(a, o->result, &w->result);
  if (!rc) rc = copy_name(a, o->reason, &w->reason);
  if (!rc) rc = copy_name(a, o->dlq, &w->dlq);
  *out = w;
  return rc;
}

static mark mark_of(const respool_outcome *o, const outcome_text *w) {
  return (mark){.kind = o->kind, .outage = o->outage != 0, .delay = o->delay,
                .text = w};
}

int batch_make_mark(respool_batch *batch, size_t i, const respool_outcome *o,
                  mark *m) {
  const outcome_text *w;
  int rc = batch_check(batch);
  if (!rc) rc = outcome_check(o);
  if (rc) return rc;
  if (i >= batch->page.n) return invalid("index", "within the batch");
  if (batch->marks[i].settled)
    return fail(RESPOOL_INVALID, "item %llu is already settled",
                (unsigned long long)batch->page.items[i].id);
  rc = copy_outcome_text(batch, o, &w);
  if (rc) return fail(rc, "not enough memory for an outcome");
  *m = mark_of(o, w);
  return 0;
}

int respool_batch_mark(respool_batch *batch, size_t i,
                       const respool_outcome *o) {
  mark m;
  int rc = batch_make_mark(batch, i, o, &m);
  if (!rc) m.gone = batch->marks[i].gone;
  if (!rc) batch->marks[i] = m;
  return rc;
}

static int mark_many(respool_batch *batch, const respool_outcome *o,
                     bool all) {
  const outcome_text *w;
  int rc = batch_check(batch);
  if (!rc) rc = outcome_check(o);
  if (!rc) rc = copy_outcome_text(batch, o, &w);
  if (rc) return rc;
  const mark new = mark_of(o, w);
  mark *m = batch->marks;
  for (size_t i = 0, n = batch->page.n; i < n; i++)
    if (!m[i].settled && !m[i].gone && (all || m[i].kind == RESPOOL_NONE))
      m[i] = new;
  return 0;
}

int respool_batch_mark_rest(respool_batch *batch, const respool_outcome *o) {
  return mark_many(batch, o, false);
}

int respool_batch_mark_all(respool_batch *batch, const respool_outcome *o) {
  return mark_many(batch, o, true);
}

size_t respool_batch_held(const respool_batch *batch) {
  size_t n = 0;
  for (size_t i = 0; batch && i < batch->n_claims; i++)
    for (size_t k = batch->claims[i].from; k < batch->claims[i].to; k++)
      n += !batch->claims[i].over && !batch_is_over(batch, k);
  return n;
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

void respool_batch_time(respool_batch *batch, uint64_t us) {
  if (batch) histogram_add(&batch->observed, us, 1);
}

batch_claim *batch_claim_of(const respool_batch *batch, size_t i) {
  batch_claim *h = batch->claims;
  while (i >= h->to) h++;
  return h;
}

/* ---- after a settle ----------------------------------------------------- */

/* Settles the claim's items that were marked; how many are not over. */
static size_t close_items(mark *own, const mark *marks, const batch_claim *h) {
  bool settles = !h->lost && !h->over;
  size_t left = 0;
  for (size_t i = h->from, to = h->to; i < to; i++) {
    if (own[i].settled || own[i].gone) continue;
    if (!marks[i].kind || !settles) {
      left++;
      continue;
    }
    own[i] = marks[i];
    own[i].settled = true;
  }
  return left;
}

void batch_close_claims(respool_batch *batch, const mark *marks) {
  for (size_t i = 0; i < batch->n_claims; i++) {
    batch_claim *h = &batch->claims[i];
    if (!close_items(batch->marks, marks, h) || h->lost) h->over = true;
  }
  memset(&batch->observed, 0, sizeof batch->observed);
}

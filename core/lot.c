/* SPDX-License-Identifier: MIT */
/*
 * The lot: marking what became of its items, settling, extending.
 */
#include "store.h"

#include <stdlib.h>
#include <string.h>

static int lot_check(const respool_lot *lot) {
  if (!lot) return fail(RESPOOL_INVALID, "the lot is NULL");
  return queue_check(lot->queue);
}

/* ---- making and freeing ------------------------------------------------- */

respool_lot *lot_new(respool_queue *q) {
  respool_lot *lot = calloc(1, sizeof *lot);
  if (lot) lot->queue = q;
  return lot;
}

void respool_lot_free(respool_lot *lot) {
  if (!lot) return;
  respool_lot_unkeep(lot);
  lot_clear(lot);
  free(lot->holds);
  free(lot->died);
  free(lot);
}

void lot_tell_deaths(const respool_lot *lot, const respool_take_options *o) {
  for (size_t i = 0; o->died && i < lot->n_died; i++)
    o->died(o->died_arg, lot->died[i].box, lot->died[i].number);
}

int lot_ready(respool_lot **lot) {
  respool_lot *l = *lot;
  if (l && l->page.n == 0) {
    respool_lot_free(l);
    *lot = l = NULL;
  }
  if (!l) return 0;
  l->marks = calloc(l->page.n, sizeof *l->marks);
  if (l->marks) return 0;
  respool_lot_free(l);
  *lot = NULL;
  return fail(RESPOOL_NOMEM, "not enough memory for a lot");
}

/* ---- marking ------------------------------------------------------------ */

size_t respool_lot_length(const respool_lot *lot) {
  return lot ? lot->page.n : 0;
}

const respool_item *respool_lot_item(const respool_lot *lot, size_t i) {
  return lot ? respool_page_item(&lot->page, i) : NULL;
}

static int outcome_check(const respool_outcome *o) {
  if (o->size != sizeof *o) return invalid("outcome.size", "set by _INIT");
  if (o->verdict < RESPOOL_NONE || o->verdict > RESPOOL_DROP)
    return invalid("verdict", "one of enum respool_verdict");
  if (o->verdict == RESPOOL_SNOOZE && o->delay < 0)
    return invalid("delay", "0 or more");
  if (o->delay < 0 && o->delay != RESPOOL_KEEP)
    return invalid("delay", "0 or more");
  if (o->memo.size > RESPOOL_MEMO_MAX)
    return invalid("memo", "at most 4096 bytes");
  if (o->box) return name_check(o->box, "box");
  if (o->reason) return name_check(o->reason, "reason");
  return 0;
}

static int copy_text(arena *a, const char *text, respool_bytes *to) {
  return arena_copy(a, phrase_cut(phrase_of(text), HISTORY_TEXT), to);
}

static int copy_name(arena *a, const char *name, const char **to) {
  if (!name) return 0;
  respool_bytes copy, b = {name, strlen(name) + 1};
  int rc = arena_copy(a, b, &copy);
  if (!rc) *to = copy.data;
  return rc;
}

/* The words of an outcome into the lot; NULL in `*out` when it has none. */
static int copy_why(respool_lot *lot, const respool_outcome *o,
                    const why **out) {
  arena *a = &lot->page.memory;
  *out = NULL;
  if (!o->error && !o->trace && !o->group && !o->reason && !o->box &&
      !o->memo.size)
    return 0;
  why *w = arena_alloc(a, sizeof *w);
  if (!w) return RESPOOL_NOMEM;
  memset(w, 0, sizeof *w);
  int rc = copy_text(a, o->error, &w->error);
  if (!rc) rc = copy_text(a, o->trace, &w->trace);
  if (!rc) rc = copy_text(a, o->group, &w->group);
  if (!rc) rc = arena_copy(a, o->memo, &w->memo);
  if (!rc) rc = copy_name(a, o->reason, &w->reason);
  if (!rc) rc = copy_name(a, o->box, &w->box);
  *out = w;
  return rc;
}

int lot_make_mark(respool_lot *lot, size_t i, const respool_outcome *o,
                  mark *m) {
  const why *w;
  int rc = lot_check(lot);
  if (!rc) rc = outcome_check(o);
  if (rc) return rc;
  if (i >= lot->page.n) return invalid("index", "within the lot");
  if (lot->marks[i].settled) return invalid("item", "not settled yet");
  rc = copy_why(lot, o, &w);
  if (rc) return fail(rc, "not enough memory for an outcome");
  *m = (mark){o->verdict, false, o->delay, w};
  return 0;
}

int respool_lot_mark(respool_lot *lot, size_t i, const respool_outcome *o) {
  mark m;
  int rc = lot_make_mark(lot, i, o, &m);
  if (!rc) lot->marks[i] = m;
  return rc;
}

int respool_lot_mark_rest(respool_lot *lot, const respool_outcome *o) {
  const why *w;
  int rc = lot_check(lot);
  if (!rc) rc = outcome_check(o);
  if (!rc) rc = copy_why(lot, o, &w);
  if (rc) return rc;
  for (size_t i = 0; i < lot->page.n; i++)
    if (!lot->marks[i].settled && lot->marks[i].verdict == RESPOOL_NONE)
      lot->marks[i] = (mark){o->verdict, false, o->delay, w};
  return 0;
}

int respool_lot_verdict(const respool_lot *lot, size_t i) {
  return lot && i < lot->page.n ? lot->marks[i].verdict : RESPOOL_NONE;
}

int respool_lot_settled(const respool_lot *lot, size_t i) {
  return lot && i < lot->page.n && lot->marks[i].settled;
}

size_t respool_lot_lost(const respool_lot *lot) {
  return lot ? lot->lost : 0;
}

void respool_lot_observe(respool_lot *lot, uint64_t us) {
  if (lot) histogram_add(&lot->observed, us, 1);
}

/* ---- settling ----------------------------------------------------------- */

typedef struct settle_op {
  op op;
  respool_queue *q;
  settle_req req;
  const respool_handover *pushes;
  append_req *appends;
  batch *batches;
  size_t n_pushes;
  claim_req take;
  respool_lot *next; /* NULL: take nothing */
} settle_op;

static int run_settle(txn *t, op *o) {
  settle_op *p = (settle_op *)o;
  int64_t now = respool_now(p->q->store);
  int rc = engine_lmdb.settle(t, p->q->name, now, &p->req);
  for (size_t i = 0; i < p->n_pushes && !rc; i++)
    rc = engine_lmdb.append(t, p->pushes[i].queue->name, now,
                            &p->appends[i]);
  if (!rc && p->next)
    rc = engine_lmdb.claim(t, p->q->name, now, &p->take, p->next);
  return rc;
}

static int add_push(settle_op *p, size_t i) {
  static const respool_push_options defaults = RESPOOL_PUSH_OPTIONS_INIT;
  const respool_handover *h = &p->pushes[i];
  const respool_push_options *o = h->options ? h->options : &defaults;
  respool *s = p->q->store;
  if (!h->queue || h->queue->store->env != s->env)
    return invalid("push", "to a queue of the same store");
  int rc = push_batch(s, h->items, h->n, o, &p->batches[i]);
  if (!rc) p->appends[i] = push_request(s, &p->batches[i], h->items, o);
  return rc;
}

static void free_pushes(settle_op *p) {
  for (size_t i = 0; p->batches && i < p->n_pushes; i++)
    batch_free(&p->batches[i]);
  free(p->batches);
  free(p->appends);
}

static int add_pushes(settle_op *p, const respool_settle_options *o) {
  int rc = 0;
  if (!o->n_pushes) return 0;
  p->pushes = o->pushes;
  p->batches = calloc(o->n_pushes, sizeof *p->batches);
  p->appends = calloc(o->n_pushes, sizeof *p->appends);
  if (!p->batches || !p->appends)
    return fail(RESPOOL_NOMEM, "not enough memory for a push");
  p->n_pushes = o->n_pushes;
  for (size_t i = 0; i < o->n_pushes; i++) batch_init(&p->batches[i], 0);
  for (size_t i = 0; i < o->n_pushes && !rc; i++) rc = add_push(p, i);
  return rc;
}

void lot_close_holds(respool_lot *lot, const mark *marks) {
  for (size_t i = 0; i < lot->n_holds; i++) {
    hold *h = &lot->holds[i];
    size_t left = 0;
    for (size_t k = h->from; k < h->to; k++) {
      mark *m = &lot->marks[k];
      if (marks[k].verdict && !h->lost && !h->over && !m->settled) {
        *m = marks[k];
        m->settled = true;
      }
      left += !m->settled;
    }
    if (h->lost || !left) h->over = true;
  }
  memset(&lot->observed, 0, sizeof lot->observed);
}

int lot_lost_error(const respool_lot *lot) {
  return fail(RESPOOL_LEASE_LOST, "the lease of %zu item%s of queue "
              "\"%.120s\" is no longer held", lot->lost,
              lot->lost == 1 ? "" : "s", lot->queue->name);
}

static int settle_run(settle_op *p, const respool_settle_options *o,
                      respool_lot **next) {
  int rc = add_pushes(p, o);
  if (!rc && o->take) {
    p->take = take_request(o->take);
    p->next = lot_new(p->q);
    if (!p->next) rc = fail(RESPOOL_NOMEM, "not enough memory for a lot");
  }
  if (!rc) rc = store_run(p->q->store, &p->op, run_settle, !o->no_wait);
  free_pushes(p);
  if (rc) {
    respool_lot_free(p->next);
    return rc;
  }
  lot_close_holds(p->req.lot, p->req.lot->marks);
  if (p->next) lot_tell_deaths(p->next, o->take);
  rc = lot_ready(&p->next);
  if (!rc && next) *next = p->next;
  return rc;
}

int respool_lot_settle(respool_lot *lot, const respool_settle_options *o,
                       respool_lot **next) {
  static const respool_settle_options defaults = RESPOOL_SETTLE_OPTIONS_INIT;
  if (!o) o = &defaults;
  int rc = lot_check(lot);
  if (!rc && o->size != sizeof *o) rc = invalid("size", "set by _INIT");
  if (!rc && o->take) rc = take_check(o->take);
  if (!rc && o->take && !next) rc = invalid("next", "given with take");
  if (rc) return rc;
  respool_queue *q = lot->queue;
  settle_op p = {.q = q, .req = {.lot = lot, .marks = lot->marks,
                                 .strict = o->n_pushes > 0,
                                 .chance = &q->store->random}};
  rc = settle_run(&p, o, next);
  return !rc && lot->lost ? lot_lost_error(lot) : rc;
}

/* ---- extending ---------------------------------------------------------- */

typedef struct extend_op {
  op op;
  respool_queue *q;
  int64_t lease;
  uint64_t token;
  hold *holds;
  size_t n;
} extend_op;

static int run_extend(txn *t, op *o) {
  extend_op *p = (extend_op *)o;
  return engine_lmdb.extend(t, p->q->name, respool_now(p->q->store),
                            p->lease, p->token, p->holds, p->n);
}

int lot_extend_holds(respool_queue *q, int64_t lease, uint64_t token,
                     hold *holds, size_t n, bool durable) {
  extend_op o = {.q = q, .lease = lease, .token = token, .holds = holds,
                 .n = n};
  return store_run(q->store, &o.op, run_extend, durable);
}

static size_t count_lost(const respool_lot *lot) {
  size_t n = 0;
  for (size_t i = 0; i < lot->n_holds; i++)
    for (size_t k = lot->holds[i].from; k < lot->holds[i].to; k++)
      n += !lot->holds[i].over && lot->holds[i].lost &&
           !lot->marks[k].settled;
  return n;
}

int respool_lot_extend(respool_lot *lot, int64_t ms) {
  int rc = lot_check(lot);
  if (rc) return rc;
  if (ms != RESPOOL_KEEP && (ms < 1 || ms > LEASE_MAX))
    return invalid("lease", "1 ms to 7 days");
  rc = lot_extend_holds(lot->queue, ms, lot->token, lot->holds,
                        lot->n_holds, true);
  if (rc) return rc;
  lot->lost = count_lost(lot);
  return lot->lost ? lot_lost_error(lot) : 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * The lot: marking what became of its items, extending its lease.
 */
#include "verbs/store.h"

#include <stdlib.h>
#include <string.h>

int lot_check(respool_lot *lot) {
  if (!lot) return fail(RESPOOL_INVALID, "the lot is NULL");
  int rc = queue_check(lot->queue);
  return !rc && lot->ticket ? ticket_landed(lot->ticket, "lot") : rc;
}

/* ---- making and freeing ------------------------------------------------- */

respool_lot *lot_new(respool_queue *q) {
  respool_lot *lot = calloc(1, sizeof *lot);
  if (lot) lot->queue = q;
  return lot;
}

void lot_destroy(respool_lot *lot) {
  lot_clear(lot);
  free(lot->holds);
  free(lot->died);
  free(lot);
}

void respool_lot_free(respool_lot *lot) {
  if (!lot) return;
  respool_lot_unkeep(lot);
  if (!lot->ticket) {
    lot_destroy(lot);
    return;
  }
  lot->doomed = true;
  if (!store_check(lot->queue->store)) ticket_drop(lot->ticket);
}

void lot_engage(respool_lot *lot, respool_ticket *t) {
  lot->ticket = t;
  t->refs++;
}

void lot_disengage(respool_lot *lot) {
  respool_ticket *t = lot->ticket;
  lot->ticket = NULL;
  if (lot->doomed)
    lot_destroy(lot);
  else
    t->refs--;
}

int lot_make_marks(respool_lot *lot) {
  if (!lot->page.n || lot->marks) return 0;
  lot->marks = calloc(lot->page.n, sizeof *lot->marks);
  return lot->marks ? 0 : fail(RESPOOL_NOMEM, "not enough memory for a lot");
}

int lot_ready(respool_lot **lot) {
  respool_lot *l = *lot;
  int rc = l ? lot_make_marks(l) : 0;
  if (!rc && (!l || l->page.n)) return 0;
  respool_lot_free(l);
  *lot = NULL;
  return rc;
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

/* ---- after a settle ----------------------------------------------------- */

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

int lot_lost_error(const respool_queue *q, size_t lost) {
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

static int extend_check(respool_lot *lot, int64_t ms) {
  int rc = lot_check(lot);
  if (!rc && ms != RESPOOL_KEEP && (ms < 1 || ms > LEASE_MAX))
    rc = invalid("lease", "1 ms to 7 days");
  return rc;
}

int respool_lot_extend(respool_lot *lot, int64_t ms) {
  int rc = extend_check(lot, ms);
  if (rc) return rc;
  rc = lot_extend_holds(lot->queue, ms, lot->token, lot->holds,
                        lot->n_holds, true);
  if (rc) return rc;
  lot->lost = count_lost(lot);
  return lot->lost ? lot_lost_error(lot->queue, lot->lost) : 0;
}

typedef struct extend_ticket {
  extend_op extend;
  respool_lot *lot;
  size_t lost; /* once it has landed */
} extend_ticket;

static void land_extend(respool_ticket *t) {
  extend_ticket *p = (extend_ticket *)t->op;
  if (!t->op->rc) p->lot->lost = p->lost = count_lost(p->lot);
  lot_disengage(p->lot);
}

static int finish_extend(respool_ticket *t, respool_result *out) {
  const extend_ticket *p = (extend_ticket *)t->op;
  (void)out;
  return p->lost ? lot_lost_error(p->extend.q, p->lost) : 0;
}

static int start_extend(respool_ticket *t, respool_lot *lot, int64_t ms) {
  extend_ticket *p = (extend_ticket *)t->op;
  p->lot = lot;
  p->extend = (extend_op){.op = p->extend.op, .q = lot->queue, .lease = ms,
                          .token = lot->token, .holds = lot->holds,
                          .n = lot->n_holds};
  int rc = ticket_pin(t, lot->queue);
  if (!rc) rc = ticket_start(t, run_extend, true);
  if (rc) return rc;
  t->land = land_extend;
  t->finish = finish_extend;
  lot_engage(lot, t);
  return 0;
}

int respool_lot_extend_start(respool_lot *lot, int64_t ms,
                             respool_ticket **out) {
  int rc = extend_check(lot, ms);
  if (rc) return rc;
  respool_ticket *t = ticket_new(lot->queue->store, sizeof(extend_ticket));
  if (!t) return RESPOOL_NOMEM;
  rc = start_extend(t, lot, ms);
  if (rc)
    ticket_drop(t);
  else
    *out = t;
  return rc;
}

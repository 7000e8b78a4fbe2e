/* SPDX-License-Identifier: MIT */
/*
 * Items that leave the journal for LMDB, in three steps: begin copies the live
 * items before a position and sets `applying`, whereby they are nobody's; the
 * engine puts them into its transaction, with the position; finish drops them
 * here. When a process dies in between, the position in LMDB tells the next to
 * begin whether the commit happened.
 *
 * Ensures: 1. An item is dropped here only when LMDB has committed it (J4).
 * 2. A half is begun anew only when that commit is durable (J2). 3. Counters
 * are added by the position of the push, so that a scan from the applied
 * position counts the rest (J5).
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/fault.h"
#include "lmdb/journal/files/lock.h"
#include "lmdb/journal/files/slots.h"
#include "lmdb/journal/files/state.h"
#include "lmdb/journal/flush.h"

struct journal_work {
  journal *j;
  point to;
  slot *slots;
  uint64_t *queues; /* of each slot */
  uint32_t *order;
  size_t n, at;
  journal_share shares[JOURNAL_QUEUES];
  size_t n_shares;
  slot_window window;
};

int journal_enter(journal *j) {
  bool died;
  int rc = control_usable(j);
  return rc ? rc : lock_take(j, WRITE_LOCK, &died);
}

void journal_leave(journal *j) {
  if (j->c) lock_leave(j, WRITE_LOCK);
}

/* ---- begin --------------------------------------------------------------- */

/* Items that leave may have been counted in the older half or in this one. */
static uint64_t take_off(uint64_t *from, uint64_t n) {
  uint64_t off = n < *from ? n : *from;
  *from -= off;
  return n - off;
}

static void row_finish(row *r) {
  tally *t = &r->leaving;
  (void)take_off(&r->fresh.pushed, take_off(&r->old.pushed, t->pushed));
  (void)take_off(&r->fresh.pushed_bytes,
                 take_off(&r->old.pushed_bytes, t->pushed_bytes));
  (void)take_off(&r->fresh.done, take_off(&r->old.done, t->done));
  *t = (tally){0};
}

/* With the state lock: what lies before `applying` is LMDB's. A process that
   dies here leaves the block to be built anew from the one position or from
   the other. */
static void finish(control *c) {
  point to = {atomic_load(&c->applying), c->applying_chain};
  uint32_t other = (atomic_load(&c->which) & 1) ^ 1;
  for (int i = 0; i < JOURNAL_QUEUES; i++) {
    row *r = &c->row[i];
    r->stored_next = r->leaving_next;
    r->delivered_stored = r->leaving_delivered;
  }
  c->applied[other] = to;
  FAULT_POINT("journal finishing");
  atomic_store(&c->which, other);
  atomic_store(&c->applied_pos, to.pos);
  slots_drop(c, to.pos);
  for (int i = 0; i < JOURNAL_QUEUES; i++) row_finish(&c->row[i]);
  FAULT_POINT("journal finished");
  atomic_store(&c->applying, 0);
}

/* The position of LMDB in this log: that of a former file says nothing. */
static uint64_t position_of(const control *c, const journal_applied *a) {
  return a->seed == c->seed ? a->pos : c->start;
}

uint64_t journal_place(const journal *j, const journal_applied *a) {
  return position_of(j->c, a);
}

/* With the write lock alone, under which applications begin and end. */
static bool is_resolved(const journal *j, const journal_applied *a) {
  return !control_usable(j) && !atomic_load(&j->c->applying) &&
         position_of(j->c, a) == atomic_load(&j->c->applied_pos);
}

static int resolve(control *c, const journal_applied *a) {
  uint64_t applying = atomic_load(&c->applying), pos = position_of(c, a);
  if (applying && pos >= applying)
    finish(c);
  else
    atomic_store(&c->applying, 0);
  if (pos == applied_point(c).pos) return 0;
  return fail(RESPOOL_CORRUPT, "the data file has applied another part of "
              "the journal than it should have");
}

static void figures_add(journal_figures *to, const journal_figures *from) {
  to->delivered_bytes += from->delivered_bytes;
  for (int i = 0; i < RESPOOL_FLUSH_REASONS; i++)
    to->flushes[i] += from->flushes[i];
  histogram_merge(&to->wait, &from->wait);
  histogram_merge(&to->handle, &from->handle);
}

static bool row_share(row *r, bool all, journal_share *s) {
  r->leaving = r->old;
  if (all) {
    r->leaving.pushed += r->fresh.pushed;
    r->leaving.pushed_bytes += r->fresh.pushed_bytes;
    r->leaving.done += r->fresh.done;
  }
  r->leaving_next = r->next_id;
  r->leaving_delivered = r->delivered;
  *s = (journal_share){
    r->number, r->next_id, r->leaving.pushed, r->leaving.pushed_bytes,
    r->leaving.done, r->delivered - r->delivered_stored, r->figures,
  };
  return r->number && (s->pushed || s->done || s->delivered ||
                       r->next_id > r->stored_next);
}

/* The figures leave at once, and come back when the commit fails. */
static void move_figures(control *c, const journal_work *w, bool back) {
  for (size_t i = 0; i < w->n_shares; i++) {
    row *r = row_find(c, w->shares[i].queue);
    if (r && back)
      figures_add(&r->figures, &w->shares[i].figures);
    else if (r)
      r->figures = (journal_figures){0};
  }
}

static void copy_shares(control *c, journal_work *w, bool all) {
  for (int i = 0; i < JOURNAL_QUEUES; i++)
    if (row_share(&c->row[i], all, &w->shares[w->n_shares])) w->n_shares++;
}

static void copy_slots(const control *c, journal_work *w) {
  for (uint32_t i = 0; i < c->unused; i++) {
    const slot *s = &c->slot[i];
    if (atomic_load(&s->state) == SLOT_FREE || s->pos >= w->to.pos) continue;
    w->slots[w->n] = *s;
    w->queues[w->n] = c->row[s->row].number;
    w->order[w->n] = (uint32_t)w->n;
    w->n++;
  }
}

static void work_free(journal_work *w) {
  if (!w) return;
  free(w->slots);
  free(w->queues);
  free(w->order);
  free(w);
}

static journal_work *work_new(journal *j, size_t items) {
  journal_work *w = calloc(1, sizeof *w);
  if (!w) return NULL;
  w->j = j;
  w->slots = malloc((items + 1) * sizeof *w->slots);
  w->queues = malloc((items + 1) * sizeof *w->queues);
  w->order = malloc((items + 1) * sizeof *w->order);
  if (w->slots && w->queues && w->order) return w;
  work_free(w);
  return NULL;
}

/* With the state lock. */
static int begin(journal *j, int what, journal_work **out) {
  control *c = j->c;
  bool all = what == JOURNAL_ALL;
  point to = all ? (point){atomic_load(&c->tail), c->chain} : c->current;
  if (to.pos <= applied_point(c).pos) return 0;
  journal_work *w = work_new(j, c->live);
  if (!w) return fail(RESPOOL_NOMEM, "not enough memory to apply the journal");
  w->to = to;
  copy_slots(c, w);
  w->window.wanted = w->n;
  copy_shares(c, w, all);
  move_figures(c, w, false);
  c->applying_chain = to.chain;
  atomic_store(&c->applying, to.pos);
  *out = w;
  return 0;
}

static int by_queue_and_id(const void *a, const void *b, void *arg) {
  const journal_work *w = arg;
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  if (w->queues[x] != w->queues[y])
    return w->queues[x] < w->queues[y] ? -1 : 1;
  return w->slots[x].id < w->slots[y].id ? -1 : 1;
}

int journal_begin(journal *j, const journal_applied *applied, int what,
                  journal_work **w) {
  *w = NULL;
  if (what == JOURNAL_NOTHING && is_resolved(j, applied)) return 0;
  int rc = state_enter(j, true);
  if (rc) return rc;
  rc = resolve(j->c, applied);
  bool any = what != JOURNAL_NOTHING;
  if (!rc && any && atomic_load(&j->c->made) == MADE_YES) {
    rc = log_reopen(j);
    if (!rc) rc = begin(j, what, w);
  }
  state_leave(j);
  if (!*w) return rc;
  qsort_r((*w)->order, (*w)->n, sizeof *(*w)->order, by_queue_and_id, *w);
  FAULT_POINT("journal applying");
  return rc;
}

/* ---- what is applied ----------------------------------------------------- */

int journal_next(journal_work *w, journal_item *out, arena *to) {
  if (w->at == w->n) return 0;
  uint32_t k = w->order[w->at];
  slot_tell(w->queues[k], &w->slots[k], out);
  int rc = slot_read(w->j, &w->slots[k], &w->window, to, out);
  if (rc) return rc;
  w->at++;
  return 1;
}

const journal_share *journal_shares(const journal_work *w, size_t *n) {
  *n = w->n_shares;
  return w->shares;
}

journal_applied journal_position(const journal_work *w) {
  return (journal_applied){w->to.pos, w->to.chain, w->j->c->seed};
}

/* ---- finish -------------------------------------------------------------- */

int journal_finish(journal_work *w, int result) {
  journal *j = w->j;
  FAULT_POINT("journal applied, not finished");
  bool known = result != RESPOOL_UNKNOWN_OUTCOME;
  int rc = known ? state_enter(j, true) : 0;
  if (known && !rc) { /* else the next to begin finds out */
    if (result) move_figures(j->c, w, true);
    if (atomic_load(&j->c->applying) != w->to.pos)
      ; /* forgotten by a repair */
    else if (!result)
      finish(j->c);
    else
      atomic_store(&j->c->applying, 0);
    state_leave(j);
  }
  work_free(w);
  return rc;
}

int journal_applied_to(const journal *j, uint64_t *pos, uint64_t *held) {
  int rc = control_usable(j);
  if (rc) return rc;
  *pos = atomic_load(&j->c->applied_pos);
  uint64_t freed = atomic_load(&j->c->freed);
  *held = *pos > freed ? *pos - freed : 0;
  return 0;
}

int journal_freed(journal *j, uint64_t pos) {
  int rc = control_usable(j);
  if (rc) return rc;
  control *c = j->c;
  if (pos <= atomic_load(&c->applied_pos)) flush_raise(&c->freed, pos);
  flush_wake(c);
  return 0;
}

static journal_state state_of(control *c) {
  return (journal_state){
    .tail = atomic_load(&c->tail), .flushed = atomic_load(&c->flushed),
    .applied = applied_point(c).pos, .freed = atomic_load(&c->freed),
    .live = c->live, .flushes = atomic_load(&c->flushes),
    .repairs = atomic_load(&c->repairs), .failed = atomic_load(&c->failed),
    .made = atomic_load(&c->made) == MADE_YES,
  };
}

int journal_now(journal *j, journal_state *out) {
  int rc = state_enter(j, true);
  if (rc) return rc;
  *out = state_of(j->c);
  state_leave(j);
  return 0;
}

int journal_glance(journal *j, journal_state *out) {
  int rc = state_look(j);
  if (rc) return rc;
  *out = state_of(j->c);
  state_leave(j);
  return 0;
}

/* SPDX-License-Identifier: MIT */
#include "postgres/queue/work.h"

#include <stdlib.h>
#include <string.h>

#include "postgres/queue/change.h"
#include "postgres/queue/policy.h"

#define EXPIRE_TURNS 10 /* each ends twice as many runs as the one before */
#define EXPIRE_PAGE 200

bool work_is_shared(const step *s) {
  return s->kind == STEP_APPEND || s->kind == STEP_CLAIM ||
         s->kind == STEP_SETTLE || s->kind == STEP_EXTEND;
}

bool work_is_planned(const step *s) {
  return work_is_shared(s) || s->kind == STEP_DEAD_REMOVE ||
         s->kind == STEP_DEAD_MOVE || s->kind == STEP_REPLAY_SAVE ||
         s->kind == STEP_ENTRY || s->kind == STEP_NOTE;
}

/* ---- planning ----------------------------------------------------------- */

/* The lease that a push depends on is one of its unit's settle. */
static uint64_t token_of(const unit *u) {
  for (size_t i = 0; i < u->n; i++)
    if (u->steps[i].kind == STEP_SETTLE)
      return u->steps[i].settle.batch->token;
  return 0;
}

static bool any_owner(const unit *u) {
  for (size_t i = 0; i < u->n; i++)
    if (u->steps[i].kind == STEP_APPEND && u->steps[i].append.owner)
      return true;
  return false;
}

void work_begin(work *w, unit *u, step *s) {
  memset(w, 0, sizeof *w);
  w->unit = u;
  w->step = s;
  if (s->kind != STEP_APPEND) return;
  w->list[0] = &s->append;
  append_begin(&w->append, s->name, w->list);
  w->append.owner_token = token_of(u);
}

static int plan_step(plan *p, work *w) {
  step *s = w->step;
  switch (s->kind) {
    case STEP_APPEND: return append_plan(p, &w->append);
    case STEP_CLAIM: return take_plan(p, &w->take, s->name, &s->claim);
    case STEP_SETTLE:
      return settle_plan(p, &w->settle, s->name, &s->settle,
                         any_owner(w->unit));
    case STEP_EXTEND: return extend_plan(p, &w->extend, s->name, &s->extend);
    case STEP_DEAD_REMOVE:
      dead_remove_plan(p, &w->remove, s->name, &s->dead_remove);
      return 0;
    case STEP_DEAD_MOVE: return dead_move_plan(p, &w->move, &s->move);
    case STEP_ENTRY: entry_plan(p, s->name, &s->entry); return 0;
    case STEP_NOTE: note_plan(p, s->name, s->note); return 0;
    default: replay_save_plan(p, s->replay); return 0;
  }
}

void work_free(work *w) {
  if (!w->step) return;
  enum step_kind kind = w->step->kind;
  if (kind == STEP_SETTLE) settle_free(&w->settle);
  if (kind == STEP_DEAD_MOVE) dead_move_free(&w->move);
  if (kind != STEP_APPEND && kind != STEP_SETTLE)
    memset(&w->append, 0, sizeof w->append);
}

int work_plan(plan *p, work *w) {
  if (w->step->kind != STEP_DEAD_MOVE) work_free(w); /* of the last try */
  w->from = p->n;
  p->now = w->unit->now;
  int rc = plan_step(p, w);
  w->to = p->n;
  return rc;
}

int work_end(plan *p, work *w) {
  p->now = w->unit->now;
  switch (w->step->kind) {
    case STEP_APPEND: append_end(p, &w->append); return 0;
    case STEP_CLAIM: return take_end(p, &w->take);
    case STEP_SETTLE: settle_end(p, &w->settle); return 0;
    case STEP_EXTEND: extend_end(p, &w->extend); return 0;
    case STEP_DEAD_REMOVE: dead_remove_end(p, &w->remove); return 0;
    case STEP_DEAD_MOVE: dead_move_end(p, &w->move); return 0;
    default: return 0;
  }
}

void work_undo(plan *p, work *w) {
  if (w->step->kind == STEP_APPEND) append_undo(p, &w->append);
  if (w->step->kind == STEP_DEAD_MOVE) dead_move_undo(p, &w->move);
}

/* ---- refusals ----------------------------------------------------------- */

/* Ends expired items, which a push found in its way; not many more than are
   in its way. */
static int end_expired(plan *p, work *w, const char *name) {
  uint64_t id = strtoull(p->call.why.detail, NULL, 10), ended;
  notices *to = w->step->kind == STEP_APPEND ? w->step->append.notices
                                             : w->step->move.notices;
  size_t runs;
  int most = 1 << w->tries;
  if (w->tries < EXPIRE_TURNS) w->tries++;
  return take_expired(p->e, p->l, w->unit->now, name, id ? 1 : most, id, to,
                      &ended, &runs);
}

/* The queue that was remembered is another, or gone. */
static int look_again(plan *p, const char *name) {
  pg_queue q;
  return known_load(p->e, p->l, name, &q);
}

static int append_refusal(plan *p, work *w, int rc) {
  const pg_failure *f = &p->call.why;
  if (failure_is(f, REFUSED_EXPIRED)) return end_expired(p, w, w->step->name);
  if (failure_is(f, "RS007")) return look_again(p, w->step->name);
  append_room room;
  return append_refused(p, &w->append, &room) ? 0 : rc;
}

static int settle_refusal(plan *p, work *w, int rc) {
  const pg_failure *f = &p->call.why;
  if (failure_is(f, REFUSED_POLICY) || failure_is(f, "RS007"))
    return look_again(p, w->step->name);
  if (failure_is(f, REFUSED_EXCUSE))
    settle_excuse(p, &w->settle);
  else if (failure_is(f, REFUSED_COUNTS))
    settle_recount(p, &w->settle);
  else if (failure_is(f, REFUSED_GONE))
    return settle_find_gone(p, &w->settle);
  else
    return failure_is(f, "RS005") ? settle_refused(p, &w->settle) : rc;
  return 0;
}

static int move_refusal(plan *p, work *w, int rc) {
  const char *name = dead_move_target(&w->move, p->call.why.at);
  if (name && failure_is(&p->call.why, REFUSED_EXPIRED))
    return end_expired(p, w, name);
  if (name && failure_is(&p->call.why, "RS007")) return look_again(p, name);
  if (name && failure_is(&p->call.why, "RS001"))
    return dead_move_refused(p, &w->move, p->call.why.at) ? 0 : rc;
  return dead_move_passes(p, &w->move) ? 0 : rc;
}

int work_refused(plan *p, work *w, int rc) {
  switch (w->step->kind) {
    case STEP_APPEND: return append_refusal(p, w, rc);
    case STEP_SETTLE: return settle_refusal(p, w, rc);
    case STEP_DEAD_MOVE: return move_refusal(p, w, rc);
    case STEP_CLAIM:
      return failure_is(&p->call.why, "RS007") ? look_again(p, w->step->name)
                                               : rc;
    default: return rc;
  }
}

/* ---- steps by themselves ------------------------------------------------ */

static int maintain_page(pg_env *e, unit *u, const pg_queue *q, step *s) {
  plan p;
  plan_init(&p, e, &e->writer);
  p.now = u->now;
  values *v = plan_add(&p, STATEMENT_MAINTAIN, NULL);
  put_int4(v, q->id);
  plan_put_wall(&p, v);
  put_int4(v, (int64_t)s->maintain.limit);
  int rc = plan_run(&p, false);
  if (!rc) {
    const PGresult *a = plan_answer(&p, 0);
    s->maintain.out.windows = (uint64_t)value_int(a, 0, 0);
    s->maintain.out.history = (uint64_t)value_int(a, 0, 1);
    s->maintain.out.dead_letters = (uint64_t)value_int(a, 0, 2);
    s->maintain.out.more |= value_bool(a, 0, 3);
  }
  plan_free(&p);
  return rc;
}

static int maintain(pg_env *e, unit *u, step *s) {
  pg_queue q;
  size_t runs;
  memset(&s->maintain.out, 0, sizeof s->maintain.out);
  int rc = known_load(e, &e->writer, s->name, &q);
  if (!rc)
    rc = take_expired(e, &e->writer, u->now, s->name, EXPIRE_PAGE, 0,
                      s->maintain.notices, &s->maintain.out.expired, &runs);
  if (rc) return rc;
  s->maintain.out.more = runs == EXPIRE_PAGE;
  return maintain_page(e, u, &q, s);
}

static int probe(pg_env *e, step *s) {
  plan p;
  plan_init(&p, e, &e->writer);
  plan_add(&p, STATEMENT_PROBE_WRITE, NULL);
  int rc = plan_run(&p, false);
  if (!rc) s->probe = (uint64_t)value_int(plan_answer(&p, 0), 0, 0);
  plan_free(&p);
  return rc;
}

int work_call(pg_env *e, unit *u) {
  step *s = u->steps;
  session *l = &e->writer;
  switch (s->kind) {
    case STEP_REMOVE: return pg_remove(e, l, u->now, s->name, &s->remove);
    case STEP_CHANGE: return pg_change(e, l, u->now, s->name, &s->change);
    case STEP_PURGE: return pg_purge(e, l, u->now, s->name, &s->purge);
    case STEP_QUEUE_OPEN:
      return pg_queue_open(e, l, u->now, s->name, s->policy);
    case STEP_QUEUE_PAUSE: return pg_queue_pause(e, l, s->name, s->paused);
    case STEP_QUEUE_HOLD:
      return pg_queue_hold(e, l, u->now, s->name, s->hold.ms, s->hold.why,
                           s->hold.partition);
    case STEP_QUEUE_DROP:
      return pg_queue_drop(e, l, u->now, s->name, &s->purge);
    case STEP_DEAD_PURGE: return pg_dead_purge(e, l, s->name, &s->dead_purge);
    case STEP_REPLAY_CANCEL: return pg_replay_cancel(e, l, s->name);
    case STEP_REPLAY_REMOVE: return pg_replay_remove(e, l, s->name);
    case STEP_MAINTAIN: return maintain(e, u, s);
    case STEP_PROBE: return probe(e, s);
    default: return fail(RESPOOL_INVALID, "a step of an unknown kind");
  }
}

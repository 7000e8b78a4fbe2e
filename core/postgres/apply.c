/* SPDX-License-Identifier: MIT */
/*
 * Applying units. A group goes to the server as one transaction in one round
 * trip, pushes that are alike as one request. Where that is refused each unit
 * goes by itself, and what it was refused by is seen to: an old policy is
 * looked up again, expired items are ended, what a full queue has no room for
 * dies. A commit is on the server's disk, so nothing is kept.
 */
#include "postgres/apply.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/histogram.h"
#include "postgres/env/bells.h"
#include "postgres/queue/work.h"

#define TRIES 100      /* of a unit that the server refuses */
#define MERGED 65536   /* items that one push may have */

/* ---- after a commit ----------------------------------------------------- */

static void note_commit(pg_env *e, int64_t from, uint64_t units,
                        bool relaxed) {
  pthread_mutex_lock(&e->lock);
  histogram_add(&e->took, (uint64_t)(clock_mono_us() - from), 1);
  histogram_count(&e->operations, units);
  e->unflushed = relaxed ? e->unflushed + 1 : 0;
  pthread_mutex_unlock(&e->lock);
}

/* An empty take has written nothing. */
static bool has_written(const unit *u) {
  for (size_t i = 0; i < u->n; i++)
    if (u->steps[i].kind != STEP_CLAIM || u->steps[i].claim.batch->page.n)
      return true;
  return false;
}

static void wake_others(pg_env *e, const unit *u) {
  for (size_t i = 0; i < u->n; i++) {
    const step *s = &u->steps[i];
    if (s->kind == STEP_CLAIM || s->kind == STEP_EXTEND) continue;
    bells_committed(e->bells, s->kind == STEP_DEAD_MOVE ? NULL : s->name);
  }
}

static void note_unit(pg_env *e, unit *u) {
  u->wrote = has_written(u);
  if (u->wrote) wake_others(e, u);
}

/* ---- a unit by itself --------------------------------------------------- */

/* Is it the fault of one push? */
static bool is_refusal(int rc) {
  return rc == RESPOOL_EXISTS || rc == RESPOOL_FULL ||
         rc == RESPOOL_NOT_FOUND || rc == RESPOOL_TOO_LARGE;
}

static refusal *refusal_of(const step *s) {
  return s->kind == STEP_APPEND ? s->append.refusal : NULL;
}

/* Notes a refusal beside which the other steps are to be tried still; false:
   the unit ends here. */
static bool note_refusal(const step *s, int rc) {
  refusal *r = refusal_of(s);
  if (!r || !is_refusal(rc)) return false;
  refusal_note(r, rc);
  return true;
}

static bool was_refused(const step *s) {
  return refusal_of(s) && refusal_of(s)->rc;
}

/* The first refusal that was noted, as the error of the unit; 0: none. */
static int first_refusal(unit *u) {
  for (size_t i = 0; i < u->n; i++) {
    if (!was_refused(&u->steps[i])) continue;
    u->failed = i;
    failure_tell(&refusal_of(&u->steps[i])->failure);
    return refusal_of(&u->steps[i])->rc;
  }
  return 0;
}

static void begin_unit(unit *u, work *works) {
  for (size_t i = 0; i < u->n; i++) {
    work_begin(&works[i], u, &u->steps[i]);
    if (refusal_of(&u->steps[i])) refusal_of(&u->steps[i])->rc = 0;
  }
}

static int plan_unit(plan *p, unit *u, work *works) {
  int rc = 0;
  for (size_t i = 0; i < u->n && !rc; i++) {
    works[i].from = works[i].to = p->n;
    if (was_refused(&u->steps[i])) continue;
    u->failed = i;
    rc = work_plan(p, &works[i]);
    if (rc && note_refusal(&u->steps[i], rc)) rc = 0;
  }
  return rc;
}

/* A take that fails once the rest has happened leaves its items leased. */
static int end_unit(plan *p, unit *u, work *works) {
  int rc = 0;
  for (size_t i = 0; i < u->n; i++) {
    int failed = work_end(p, &works[i]);
    if (u->n == 1) rc = failed;
  }
  notices_post(p->notices);
  p->notices = NULL;
  return rc;
}

/* Refused by the server, not broken off. */
static bool was_answered(const plan *p) {
  return *p->call.why.sqlstate && !p->call.why.broken;
}

static size_t work_at(const unit *u, const work *works, size_t at) {
  size_t i = 0;
  while (i + 1 < u->n && at >= works[i].to) i++;
  return i;
}

/* 0: to be tried again. */
static int see_to_refusal(plan *p, unit *u, work *works, int rc) {
  if (!was_answered(p)) return rc;
  size_t i = work_at(u, works, p->call.why.at);
  u->failed = i;
  rc = work_refused(p, &works[i], rc);
  return rc && note_refusal(&u->steps[i], rc) ? 0 : rc;
}

/* One try; `*again` when it is to be planned anew. Once a push was refused the
   rest is run only to see what else is, and undone. */
static int try_unit(pg_env *e, unit *u, work *works, bool *again) {
  plan p;
  int64_t from = clock_mono_us();
  *again = false;
  plan_init(&p, e, &e->writer);
  int rc = plan_unit(&p, u, works);
  int refused = rc ? 0 : first_refusal(u);
  if (refused) plan_add(&p, STATEMENT_UNDO, NULL);
  if (!rc) rc = plan_run(&p, !u->durable);
  if (rc && was_answered(&p))
    for (size_t i = u->n; i-- > 0;) work_undo(&p, &works[i]);
  if (refused && rc && failure_is(&p.call.why, REFUSED_UNDO))
    rc = first_refusal(u);
  else if (!rc) {
    rc = end_unit(&p, u, works);
    if (p.n && has_written(u)) note_commit(e, from, 1, !u->durable);
  } else if (p.n) {
    rc = see_to_refusal(&p, u, works, rc);
    *again = !rc;
  }
  plan_free(&p);
  return rc;
}

static int run_planned(pg_env *e, unit *u) {
  bool again = true;
  int rc = 0;
  work *works = calloc(u->n + 1, sizeof *works);
  if (!works) return fail(RESPOOL_NOMEM, "not enough memory");
  begin_unit(u, works);
  for (int i = 0; i < TRIES && again; i++)
    rc = try_unit(e, u, works, &again);
  if (again) rc = fail(RESPOOL_BUSY, "others change the same queue");
  for (size_t i = 0; i < u->n; i++) work_free(&works[i]);
  free(works);
  return rc;
}

static void run_alone(pg_env *e, unit *u) {
  u->failed = 0;
  if (!u->n)
    unit_note(u, u->barrier ? pg_flush(&e->base) : 0);
  else if (work_is_planned(u->steps))
    unit_note(u, run_planned(e, u));
  else
    unit_note(u, work_call(e, u));
  if (!u->rc) note_unit(e, u);
}

/* ---- units together ----------------------------------------------------- */

typedef struct group {
  unit *units[256];
  size_t n, n_steps;
  work **works; /* in the plan's memory, as they are */
  size_t n_works;
  bool durable;
} group;

static bool is_push(const unit *u) {
  return u->n == 1 && u->steps->kind == STEP_APPEND;
}

/* The last pushes to the same queue, if this one may join them. */
static work *mergeable(const group *g, const unit *u) {
  for (size_t i = g->n_works; i-- > 0;) {
    work *w = g->works[i];
    if (w->step->kind != STEP_APPEND || strcmp(w->step->name, u->steps->name))
      continue;
    bool fits = is_push(w->unit) && w->unit->now == u->now &&
                append_alike(w->append.of[0], &u->steps->append) &&
                w->append.items + u->steps->append.builder->n_items <= MERGED;
    return fits ? w : NULL;
  }
  return NULL;
}

static void merge(plan *p, const group *g, work *w, unit *u) {
  appending *a = &w->append;
  if (a->of == w->list) { /* the first to join */
    append_req **all = plan_alloc(p, g->n * sizeof *all);
    if (!all) return;
    *all = *a->of;
    a->of = all;
  }
  append_join(a, &u->steps->append);
}

static void add_unit(plan *p, group *g, unit *u) {
  work *works = plan_alloc(p, u->n * sizeof *works);
  if (!works) return;
  begin_unit(u, works);
  for (size_t i = 0; i < u->n; i++) g->works[g->n_works++] = &works[i];
}

static void gather(plan *p, group *g) {
  g->n_works = 0;
  g->works = plan_alloc(p, g->n_steps * sizeof *g->works);
  for (size_t i = 0; i < g->n && g->works; i++) {
    unit *u = g->units[i];
    work *w = is_push(u) ? mergeable(g, u) : NULL;
    if (w)
      merge(p, g, w, u);
    else
      add_unit(p, g, u);
  }
}

/* Whether all that may be known is: else each unit is to be run alone. */
static bool end_group(plan *p, group *g, int rc) {
  if (was_answered(p)) {
    for (size_t i = g->n_works; i-- > 0;) work_undo(p, g->works[i]);
    return false;
  }
  if (rc == RESPOOL_NOMEM) return false;
  for (size_t i = 0; i < g->n; i++) unit_note(g->units[i], rc);
  return true;
}

static int run_group(pg_env *e, plan *p, group *g) {
  int rc = 0;
  gather(p, g);
  for (size_t i = 0; i < g->n_works && !rc; i++)
    rc = work_plan(p, g->works[i]);
  if (rc) {
    strcpy(p->call.why.sqlstate, "RS000"); /* one of them is at fault */
    return rc;
  }
  int64_t from = clock_mono_us();
  rc = plan_run(p, !g->durable);
  if (rc) return rc;
  uint64_t wrote = 0;
  for (size_t i = 0; i < g->n_works; i++) (void)work_end(p, g->works[i]);
  for (size_t i = 0; i < g->n; i++) wrote += has_written(g->units[i]);
  if (wrote) note_commit(e, from, wrote, !g->durable);
  notices_post(p->notices);
  p->notices = NULL;
  return 0;
}

static bool run_together(pg_env *e, group *g) {
  plan p;
  plan_init(&p, e, &e->writer);
  int rc = run_group(e, &p, g);
  bool over = rc ? end_group(&p, g, rc) : true;
  for (size_t i = 0; i < g->n && !rc; i++) {
    unit_note(g->units[i], 0);
    note_unit(e, g->units[i]);
  }
  for (size_t i = 0; i < g->n_works; i++) work_free(g->works[i]);
  plan_free(&p);
  return over;
}

static void run_group_or_each(pg_env *e, group *g) {
  if (g->n > 1 && run_together(e, g)) {
    g->n = g->n_steps = 0;
    return;
  }
  for (size_t i = 0; i < g->n; i++) run_alone(e, g->units[i]);
  g->n = g->n_steps = 0;
}

static bool is_shared(const unit *u) {
  for (size_t i = 0; i < u->n; i++)
    if (!work_is_shared(&u->steps[i])) return false;
  return u->n > 0;
}

void pg_apply(env *base, unit_list *list, unit_list *kept, unit_list *ended) {
  pg_env *e = (pg_env *)base;
  group g = {.n = 0};
  (void)kept; /* nothing ever is */
  for (unit *u; (u = unit_list_pop(list)); unit_list_add(ended, u)) {
    if (!is_shared(u) || g.n == 256) run_group_or_each(e, &g);
    if (!g.n) g.durable = false;
    if (!is_shared(u)) {
      run_alone(e, u);
      continue;
    }
    g.units[g.n++] = u;
    g.n_steps += u->n;
    g.durable |= u->durable;
  }
  run_group_or_each(e, &g);
  known_tell_old(e);
}

/* A commit that is on disk has all before it there. */
int pg_flush(env *base) {
  pg_env *e = (pg_env *)base;
  pthread_mutex_lock(&e->lock);
  uint64_t before = e->unflushed;
  pthread_mutex_unlock(&e->lock);
  if (!before) return 0;
  values v;
  request r = {.statement = STATEMENT_PROBE_WRITE, .values = &v};
  call k = {.requests = &r, .n = 1};
  values_init(&v);
  session *l = pg_session_take(e);
  int rc = l ? call_run(l, &k) : fail(RESPOOL_NOMEM, "not enough memory");
  pg_session_give(e, l);
  call_clear(&k);
  values_free(&v);
  if (rc) return rc;
  pthread_mutex_lock(&e->lock);
  if (e->unflushed == before) e->unflushed = 0;
  pthread_mutex_unlock(&e->lock);
  return 0;
}

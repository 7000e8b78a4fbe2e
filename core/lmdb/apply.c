/* SPDX-License-Identifier: MIT */
/*
 * Applying units: a group in one transaction. A commit flushes the data; what
 * makes the commit itself durable is the flush of the next one, or one of its
 * own when nothing is waiting. A durable unit is over after that, another one
 * after the commit. In between it is kept.
 */
#include "lmdb/apply.h"

#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "lmdb/env/env.h"
#include "lmdb/env/files.h"
#include "lmdb/small.h"
#include "lmdb/step.h"
#include "lmdb/unit/journaled.h"
#include "lmdb/unit/unit.h"

/* ---- a group ------------------------------------------------------------ */

static void forget_refusals(unit *u) {
  for (size_t i = 0; i < u->n; i++)
    if (u->steps[i].kind == STEP_APPEND && u->steps[i].append.refusal)
      u->steps[i].append.refusal->rc = 0;
}

/* The first refusal that was noted, as the error of the unit. */
static int refused(unit *u) {
  for (size_t i = 0; i < u->n; i++) {
    const step *s = &u->steps[i];
    if (s->kind != STEP_APPEND || !s->append.refusal) continue;
    if (!s->append.refusal->rc) continue;
    u->failed = i;
    failure_tell(&s->append.refusal->failure);
    return s->append.refusal->rc;
  }
  return 0;
}

static int run_steps(txn *t, unit *u) {
  int64_t now = u->now == SERVER_TIME ? clock_wall() : u->now;
  int rc = 0;
  u->needs_flush = false;
  forget_refusals(u);
  for (size_t i = u->ran; i < u->n && !rc; i++) {
    u->failed = i;
    rc = lmdb_step(t, u, &u->steps[i], now);
  }
  return rc ? rc : refused(u);
}

/* Items that a lone push without room has ended stay ended, or they would be
   ended again with every try. */
static bool stays(const unit *u) {
  return u->n == 1 && u->steps->kind == STEP_APPEND && u->rc == RESPOOL_FULL &&
         u->steps->append.only_expired;
}

/* Runs the units in `t`; false when one failed after it had changed
   something that is not to stay, which spoils the transaction for all. */
static bool run_all(txn *t, unit_list *group) {
  for (unit *u = group->first; u; u = u->next) {
    uint64_t before = t->changes - t->work_changes;
    unit_note(u, run_steps(t, u));
    u->wrote = t->changes - t->work_changes != before;
    if (u->rc && u->wrote && !stays(u)) return false;
  }
  return true;
}

static void note_all(unit_list *l, int rc) {
  for (unit *u = l->first; u; u = u->next) unit_note(u, rc);
}

/* Commits what the group did, if anything. */
static int commit_group(txn *t, unit_list *group, bool *committed) {
  if (!t->changes) {
    unit_abort(t);
    return 0;
  }
  FAULT_POINT("ran");
  int rc = unit_commit(t);
  FAULT_POINT("committed");
  if (rc)
    note_all(group, rc);
  else
    *committed = true;
  return rc;
}

/* One transaction for the whole group; false asks for one each. */
static bool run_together(lmdb_env *e, unit_list *group, bool *committed) {
  txn *t;
  int rc = unit_begin(&e->base, true, &t);
  FAULT_POINT("begun");
  if (rc) {
    note_all(group, rc);
    return true;
  }
  if (run_all(t, group))
    rc = commit_group(t, group, committed);
  else {
    unit_abort(t);
    rc = RESPOOL_BUSY;
  }
  return !rc || rc == RESPOOL_UNKNOWN_OUTCOME || !group->first->next;
}

/* Whether anything was committed. */
static bool run_group(lmdb_env *e, unit_list *group) {
  bool committed = false;
  if (run_together(e, group, &committed)) return committed;
  for (unit *u = group->first, *next; u; u = next) {
    unit_list alone;
    next = u->next;
    unit_list_init(&alone);
    unit_list_add(&alone, u);
    run_together(e, &alone, &committed);
    u->next = next;
  }
  return committed;
}

/* ---- who is over, and when ---------------------------------------------- */

/* The units of `l` are on disk now (rc 0), or nobody knows. */
static void end_all(unit_list *l, int rc, unit_list *ended) {
  for (unit *u; (u = unit_list_pop(l));) {
    if (rc) unit_note(u, rc);
    unit_list_add(ended, u);
  }
}

/* A settle that the journal has done stands, though the take beside it
   failed: another take will tell why. */
static void settle_stands(unit *u) {
  if (!u->ran || !u->rc) return;
  unit_note(u, 0);
  u->wrote = false;
  batch_clear(u->steps[u->ran].claim.batch);
}

/* Sorts a group that ran: which units wait for a flush, which are over. */
static void sort_group(const commits *c, unit_list *group, unit_list *kept,
                       unit_list *ended) {
  for (unit *u; (u = unit_list_pop(group));) {
    settle_stands(u);
    bool due = u->barrier ? c->unflushed : u->wrote;
    bool waits = u->durable && (u->needs_flush || (due && !u->rc));
    unit_list_add(waits ? kept : ended, u);
  }
}

/* Counts a commit that was begun at `from` with the units it carried. */
static void note_commit(commits *c, int64_t from, const unit_list *group) {
  uint64_t n = 0;
  for (const unit *u = group->first; u; u = u->next) n += u->wrote && !u->rc;
  histogram_add(&c->took, (uint64_t)(clock_mono_us() - from), 1);
  histogram_count(&c->operations, n);
  c->version++;
  pthread_cond_broadcast(&c->changed);
}

static bool any_unknown(const unit_list *l) {
  for (const unit *u = l->first; u; u = u->next)
    if (u->rc == RESPOOL_UNKNOWN_OUTCOME) return true;
  return false;
}

static void set_applying(commits *c, bool applying) {
  pthread_mutex_lock(&c->lock);
  c->applying = applying;
  pthread_mutex_unlock(&c->lock);
}

/* Runs a group, whose flush also serves the one before. */
static void apply_group(lmdb_env *e, unit_list *group, unit_list *kept,
                        unit_list *ended) {
  commits *c = &e->commits;
  int64_t from = clock_mono_us();
  bool committed = run_group(e, group);
  pthread_mutex_lock(&c->lock);
  if (committed) note_commit(c, from, group);
  if (committed || any_unknown(group)) {
    c->unflushed = true;
    end_all(kept, committed ? 0 : RESPOOL_UNKNOWN_OUTCOME, ended);
  }
  sort_group(c, group, kept, ended);
  c->applying = false;
  pthread_mutex_unlock(&c->lock);
  if (committed) small_catch_up(e);
}

static void flush_kept(lmdb_env *e, unit_list *kept, unit_list *ended) {
  commits *c = &e->commits;
  FAULT_POINT("flush");
  int rc = kept->first ? small_sync(e) : 0;
  FAULT_POINT("flushed");
  pthread_mutex_lock(&c->lock);
  if (!rc && kept->first) c->unflushed = false;
  c->applying = false;
  pthread_mutex_unlock(&c->lock);
  end_all(kept, rc, ended);
}

/* ---- in the journal ------------------------------------------------------ */

/* Which queues a unit touches, as bits that others may share. */
static uint64_t queues_of(const unit *u) {
  uint64_t queues = 0;
  for (size_t i = 0; i < u->n; i++) {
    const step *s = &u->steps[i];
    if (!s->name || s->kind == STEP_DEAD_MOVE || s->kind == STEP_CHANGE)
      return UINT64_MAX;
    queues |= (uint64_t)1 << queue_word(s->name) % 64;
  }
  return queues;
}

/* A barrier flushes the journal too. Is the unit over, as that failed? */
static bool ends_at_barrier(lmdb_env *e, unit *u) {
  int rc = u->barrier ? small_flush(e) : 0;
  unit_note(u, rc);
  return rc;
}

/* Moves the units that the journal has done to `done`. A unit behind one that
   is left to LMDB is left to it too, if they share a queue: units run in their
   order. */
static void run_small(lmdb_env *e, unit_list *group, unit_list *done,
                      small_group *g) {
  unit_list rest;
  uint64_t taken = 0;
  unit_list_init(&rest);
  for (unit *u; (u = group->first);) {
    uint64_t queues = queues_of(u);
    u->ran = 0;
    size_t n = ends_at_barrier(e, u) ? 1
               : queues & taken      ? 0 : small_run(e, u, g);
    if (!n) taken |= queues;
    unit_list_add(n ? done : &rest, unit_list_pop(group));
    for (; n > 1; n--) unit_list_add(done, unit_list_pop(group));
  }
  *group = rest;
  if (!rest.first) group->end = &group->first;
}

static int flush_small(lmdb_env *e, const small_group *g) {
  int rc = g->end ? small_flush_to(e, g->end) : 0;
  return rc || !g->late ? rc : small_flush_late(e);
}

/* Ensures: a durable unit is over when it is on disk. */
static void end_small(lmdb_env *e, unit_list *done, const small_group *g,
                      int64_t from, unit_list *ended) {
  commits *c = &e->commits;
  int rc = flush_small(e, g);
  for (unit *u = done->first; u; u = u->next) {
    if (rc && u->wrote && u->durable) unit_note(u, rc);
    small_wake(e, u);
  }
  pthread_mutex_lock(&c->lock);
  if (g->wrote) note_commit(c, from, done);
  pthread_mutex_unlock(&c->lock);
  end_all(done, 0, ended);
  if (rc) (void)small_mend(e);
  if (!rc && g->due) small_apply_old(e);
}

/* A write must not go to a store that was deleted or replaced meanwhile. */
static bool any_writes(const unit_list *group) {
  for (const unit *u = group->first; u; u = u->next)
    for (size_t i = 0; i < u->n; i++)
      if (u->steps[i].kind != STEP_CLAIM) return true;
  return false;
}

/* Without units for LMDB the kept ones need a flush of their own. */
static void apply_units(lmdb_env *e, unit_list *group, unit_list *kept,
                        unit_list *ended) {
  int64_t from = clock_mono_us();
  small_group g = {.end = 0};
  unit_list done;
  unit_list_init(&done);
  if (!env_check(&e->base, any_writes(group) ? LOOK_OFTEN : LOOK_SELDOM))
    run_small(e, group, &done, &g);
  if (done.first || g.wrote) end_small(e, &done, &g, from, ended);
  if (group->first)
    apply_group(e, group, kept, ended);
  else
    flush_kept(e, kept, ended);
}

void lmdb_apply(env *base, unit_list *group, unit_list *kept,
                unit_list *ended) {
  lmdb_env *e = (lmdb_env *)base;
  set_applying(&e->commits, true);
  if (!e->journal && group->first)
    apply_group(e, group, kept, ended);
  else if (group->first)
    apply_units(e, group, kept, ended);
  else
    flush_kept(e, kept, ended);
}

/* ---- flushing and waiting ----------------------------------------------- */

int lmdb_flush(env *base) {
  lmdb_env *e = (lmdb_env *)base;
  commits *c = &e->commits;
  pthread_mutex_lock(&c->lock);
  bool needed = c->unflushed || c->applying;
  uint64_t version = c->version;
  pthread_mutex_unlock(&c->lock);
  int rc = env_check(base, LOOK_SELDOM);
  if (!rc) rc = small_flush(e);
  if (rc || !needed) return rc;
  rc = small_sync(e);
  pthread_mutex_lock(&c->lock);
  if (!rc && c->version == version && !c->applying) c->unflushed = false;
  pthread_mutex_unlock(&c->lock);
  return rc;
}

/* Without a journal only this process commits. */
static void wait_here(commits *c, uint64_t seen, int64_t end) {
  struct timespec until;
  int64_t left = end - clock_mono();
  clock_deadline(&until, left > 0 ? left : 0);
  pthread_mutex_lock(&c->lock);
  while (c->version + 1 == seen &&
         !pthread_cond_timedwait(&c->changed, &c->lock, &until))
    continue;
  pthread_mutex_unlock(&c->lock);
}

static uint64_t commits_seen(commits *c) {
  pthread_mutex_lock(&c->lock);
  uint64_t seen = c->version + 1;
  pthread_mutex_unlock(&c->lock);
  return seen;
}

/* Any commit to the queue ends it, whatever is waited for. */
int lmdb_wait(env *base, const char *name, enum wait_for what, uint64_t *seen,
              int64_t ms) {
  (void)what;
  lmdb_env *e = (lmdb_env *)base;
  int64_t end = time_after(clock_mono(), ms), left;
  uint64_t word = queue_word(name), now;
  for (;;) {
    int rc = env_check(base, LOOK_SELDOM);
    if (rc) return rc;
    now = e->journal ? (uint64_t)journal_watch(e->journal, word) + 1
                     : commits_seen(&e->commits);
    left = end - clock_mono();
    if (now != *seen || left <= 0) break;
    if (e->journal)
      journal_wait(e->journal, word, (uint32_t)(now - 1), left);
    else
      wait_here(&e->commits, now, end);
  }
  *seen = now;
  return 0;
}

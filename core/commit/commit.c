/* SPDX-License-Identifier: MIT */
/*
 * Group commit; see commit.h. Invariants:
 *
 *   1. At most one thread is the leader, and only it opens transactions.
 *   2. An operation is in one list at a time: waiting, in the leader's
 *      group, unflushed, or done.
 *   3. Whenever a list is not empty some thread leads, or one of those who
 *      wait in it has been woken to lead; for a ticket's operation that is
 *      the committer's own thread.
 */
#include "commit/commit.h"

#include <string.h>

#include "base/clock.h"
#include "engine.h"
#include "base/fault.h"
#include "base/thread.h"
#include "commit/ticket.h"

#define GROUP_MAX 256 /* operations in one transaction */

/* ---- lists -------------------------------------------------------------- */

static void list_init(op_list *l) {
  l->first = NULL;
  l->end = &l->first;
}

static void list_add(op_list *l, op *o) {
  o->next = NULL;
  *l->end = o;
  l->end = &o->next;
}

static op *list_pop(op_list *l) {
  op *o = l->first;
  if (!o) return NULL;
  l->first = o->next;
  if (!l->first) l->end = &l->first;
  return o;
}

/* Moves up to `max` operations to an empty list. */
static void list_cut(op_list *from, op_list *to, int max) {
  list_init(to);
  for (op *o; max-- > 0 && (o = list_pop(from));) list_add(to, o);
}

void committer_init(committer *c) {
  memset(c, 0, sizeof *c);
  pthread_condattr_t a;
  pthread_condattr_init(&a);
  pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
  pthread_mutex_init(&c->lock, NULL);
  pthread_cond_init(&c->changed, &a);
  pthread_cond_init(&c->work, NULL);
  pthread_condattr_destroy(&a);
  list_init(&c->waiting);
  list_init(&c->unflushed);
}

void committer_destroy(committer *c) {
  pthread_mutex_destroy(&c->lock);
  pthread_cond_destroy(&c->changed);
  pthread_cond_destroy(&c->work);
}

/* ---- running a group ---------------------------------------------------- */

static void note(op *o, int rc) {
  o->rc = rc;
  if (rc) strcpy(o->text, respool_error_text());
}

static void note_all(op_list *l, int rc) {
  for (op *o = l->first; o; o = o->next) note(o, rc);
}

/* Runs the operations in `t`; false when one failed after it had changed
   something that is not to stand, which spoils the transaction for all. */
static bool run_all(const engine *g, txn *t, op_list *group) {
  for (op *o = group->first; o; o = o->next) {
    uint64_t before = g->changes(t);
    o->relies = o->stands = false;
    note(o, o->run(t, o));
    o->wrote = g->changes(t) != before;
    if (o->rc && o->wrote && !o->stands) return false;
  }
  return true;
}

/* Commits what the group did, if anything. */
static int commit_group(env *e, txn *t, op_list *group, bool *flushed) {
  if (!e->engine->changes(t)) {
    e->engine->abort(t);
    return 0;
  }
  FAULT_POINT("ran");
  int rc = e->engine->commit(t);
  FAULT_POINT("committed");
  if (rc)
    note_all(group, rc);
  else
    *flushed = true;
  return rc;
}

/* One transaction for the whole group; false asks for one each. */
static bool run_together(env *e, op_list *group, bool *flushed) {
  txn *t;
  int rc = e->engine->begin(e, true, &t);
  FAULT_POINT("begun");
  if (rc) {
    note_all(group, rc);
    return true;
  }
  if (run_all(e->engine, t, group))
    rc = commit_group(e, t, group, flushed);
  else {
    e->engine->abort(t);
    rc = RESPOOL_BUSY;
  }
  return !rc || rc == RESPOOL_UNKNOWN_OUTCOME || !group->first->next;
}

static bool run_group(env *e, op_list *group) {
  bool flushed = false;
  if (run_together(e, group, &flushed)) return flushed;
  for (op *o = group->first; o; o = o->next) { /* each for itself */
    op_list alone;
    op *next = o->next;
    list_init(&alone);
    list_add(&alone, o);
    run_together(e, &alone, &flushed);
    o->next = next;
  }
  return flushed;
}

/* ---- leading ------------------------------------------------------------ */

static void finish(op *o) {
  respool_ticket *t = o->ticket;
  if (t) {
    ticket_ended(t);
    return;
  }
  o->done = true;
  pthread_cond_signal(&o->wake);
}

/* Their commit is on disk now (rc 0), or nobody knows. */
static void finish_unflushed(op_list *l, int rc) {
  for (op *o; (o = list_pop(l));) {
    if (rc) note(o, rc);
    finish(o);
  }
}

/* Sorts a group that ran: who waits for a flush, who is done. */
static void sort_group(committer *c, op_list *group) {
  for (op *o; (o = list_pop(group));) {
    bool due = o->barrier ? c->behind : o->wrote;
    if (o->durable && (o->relies || (due && !o->rc)))
      list_add(&c->unflushed, o);
    else
      finish(o);
  }
}

static void lead_flush(env *e) {
  committer *c = &e->commit;
  op_list flushing;
  list_cut(&c->unflushed, &flushing, INT32_MAX);
  c->behind = false;
  pthread_mutex_unlock(&c->lock);
  FAULT_POINT("flush");
  int rc = e->engine->sync(e);
  FAULT_POINT("flushed");
  pthread_mutex_lock(&c->lock);
  if (rc) c->behind = true;
  finish_unflushed(&flushing, rc);
}

/* Counts a commit that was begun at `from` with the operations it carried. */
static void note_commit(committer *c, int64_t from, const op_list *group) {
  uint64_t n = 0;
  for (const op *o = group->first; o; o = o->next) n += o->wrote && !o->rc;
  histogram_add(&c->took, (uint64_t)(clock_mono_us() - from), 1);
  histogram_count(&c->operations, n);
}

static bool any_unknown(const op_list *l) {
  for (const op *o = l->first; o; o = o->next)
    if (o->rc == RESPOOL_UNKNOWN_OUTCOME) return true;
  return false;
}

/* One step of the leader: run what waits, whose flush also serves the
   group before; or flush, when nothing waits. Called with the lock held. */
static void lead(env *e) {
  committer *c = &e->commit;
  op_list group, before;
  if (!c->waiting.first) {
    lead_flush(e);
    return;
  }
  list_cut(&c->waiting, &group, GROUP_MAX);
  list_cut(&c->unflushed, &before, INT32_MAX);
  pthread_mutex_unlock(&c->lock);
  int64_t from = clock_mono_us();
  bool flushed = run_group(e, &group);
  pthread_mutex_lock(&c->lock);
  if (flushed) {
    note_commit(c, from, &group);
    c->version++;
    pthread_cond_broadcast(&c->changed);
  }
  if (flushed || any_unknown(&group)) {
    c->behind = true;
    finish_unflushed(&before, flushed ? 0 : RESPOOL_UNKNOWN_OUTCOME);
  }
  for (op *o; (o = list_pop(&before));) list_add(&c->unflushed, o);
  sort_group(c, &group);
}

/* Somebody who waits takes over. */
static void hand_over(committer *c) {
  op *o = c->unflushed.first ? c->unflushed.first : c->waiting.first;
  if (o) pthread_cond_signal(o->ticket ? &c->work : &o->wake);
}

static void lead_until(env *e, op *o) {
  committer *c = &e->commit;
  while (!o->done) {
    if (c->led) {
      pthread_cond_wait(&o->wake, &c->lock);
      continue;
    }
    c->led = true;
    lead(e);
    c->led = false;
  }
  if (!c->led) hand_over(c);
}

int commit_op(env *e, op *o) {
  committer *c = &e->commit;
  o->done = o->wrote = false;
  o->rc = 0;
  o->ticket = NULL;
  pthread_cond_init(&o->wake, NULL);
  pthread_mutex_lock(&c->lock);
  list_add(&c->waiting, o);
  lead_until(e, o);
  pthread_mutex_unlock(&c->lock);
  pthread_cond_destroy(&o->wake);
  if (o->rc) fail_text(o->text);
  return o->rc;
}

/* ---- operations that nobody waits for ----------------------------------- */

static bool has_work(const committer *c) {
  return c->waiting.first || c->unflushed.first;
}

static void *lead_main(void *arg) {
  env *e = arg;
  committer *c = &e->commit;
  pthread_mutex_lock(&c->lock);
  while (!c->stopping) {
    if (c->led || !has_work(c)) {
      pthread_cond_wait(&c->work, &c->lock);
      continue;
    }
    c->led = true;
    lead(e);
    c->led = false;
  }
  pthread_mutex_unlock(&c->lock);
  return NULL;
}

static int need_thread(env *e) {
  committer *c = &e->commit;
  if (!c->threaded && thread_start(&c->thread, lead_main, e))
    return fail(RESPOOL_NOMEM, "cannot start a thread");
  c->threaded = true;
  return 0;
}

void commit_start_locked(env *e, op *o, int *running) {
  committer *c = &e->commit;
  o->done = o->wrote = false;
  o->rc = 0;
  ++*running;
  list_add(&c->waiting, o);
  if (!c->led) pthread_cond_signal(&c->work);
}

int commit_start(env *e, op *o, int *running) {
  committer *c = &e->commit;
  pthread_mutex_lock(&c->lock);
  int rc = need_thread(e);
  if (!rc) commit_start_locked(e, o, running);
  pthread_mutex_unlock(&c->lock);
  return rc;
}

void commit_ended(env *e, int *running) {
  --*running;
  pthread_cond_broadcast(&e->commit.changed);
}

void commit_drain(env *e, const int *running) {
  committer *c = &e->commit;
  pthread_mutex_lock(&c->lock);
  while (*running > 0) pthread_cond_wait(&c->changed, &c->lock);
  pthread_mutex_unlock(&c->lock);
}

void commit_stop(env *e) {
  committer *c = &e->commit;
  pthread_mutex_lock(&c->lock);
  c->stopping = true;
  pthread_cond_signal(&c->work);
  pthread_mutex_unlock(&c->lock);
  if (c->threaded) pthread_join(c->thread, NULL);
}

/* ---- flush, read, wait -------------------------------------------------- */

int commit_flush(env *e) {
  committer *c = &e->commit;
  pthread_mutex_lock(&c->lock);
  bool behind = c->behind || c->led;
  uint64_t version = c->version;
  pthread_mutex_unlock(&c->lock);
  if (!behind) return 0;
  int rc = e->engine->sync(e);
  pthread_mutex_lock(&c->lock);
  if (!rc && c->version == version && !c->led) c->behind = false;
  pthread_mutex_unlock(&c->lock);
  return rc;
}

int commit_read(env *e, int (*run)(txn *t, op *o), op *o) {
  txn *t;
  int rc = e->engine->begin(e, false, &t);
  if (rc) return rc;
  FAULT_POINT("reading");
  rc = run(t, o);
  e->engine->abort(t);
  return rc;
}

uint64_t commit_version(env *e) {
  committer *c = &e->commit;
  pthread_mutex_lock(&c->lock);
  uint64_t version = c->version;
  pthread_mutex_unlock(&c->lock);
  return version;
}

void commit_wait(env *e, uint64_t seen, int64_t ms) {
  committer *c = &e->commit;
  struct timespec until;
  clock_deadline(&until, ms);
  pthread_mutex_lock(&c->lock);
  int rc = 0;
  while (c->version == seen && !rc)
    rc = pthread_cond_timedwait(&c->changed, &c->lock, &until);
  pthread_mutex_unlock(&c->lock);
}

void commit_figures(env *e, respool_histogram *took,
                    respool_histogram *operations) {
  committer *c = &e->commit;
  pthread_mutex_lock(&c->lock);
  *took = c->took;
  *operations = c->operations;
  pthread_mutex_unlock(&c->lock);
}

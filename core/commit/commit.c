/* SPDX-License-Identifier: MIT */
/*
 * Group commit; see commit.h. Invariants:
 *
 *   1. At most one thread is the leader, and only it calls the engine's apply.
 *   2. A unit is in one list at a time: waiting, in the leader's group, kept
 *      by the engine, or over.
 *   3. Whenever a list is not empty some thread leads, or one of those who
 *      wait for a unit in it has been woken to lead; where nobody waits that
 *      is the committer's own thread.
 */
#include "commit/commit.h"

#include <stdlib.h>

#include "base/thread.h"

#define GROUP_MAX 256 /* units that the engine is given at once */

typedef struct committer {
  pthread_mutex_t lock;
  unit_list waiting;      /* not run yet */
  unit_list kept;         /* run, but not over; see engine.h */
  bool has_leader;
  pthread_cond_t changed; /* a started unit has ended */
  pthread_t thread;       /* leads where nobody waits */
  pthread_cond_t work;    /* there may be something for it to lead */
  bool threaded, stopping;
} committer;

/* The thread has nothing left to do. */
static void commit_close(env *e) {
  committer *c = e->commit;
  pthread_mutex_lock(&c->lock);
  c->stopping = true;
  pthread_cond_signal(&c->work);
  pthread_mutex_unlock(&c->lock);
  if (c->threaded) pthread_join(c->thread, NULL);
  pthread_mutex_destroy(&c->lock);
  pthread_cond_destroy(&c->changed);
  pthread_cond_destroy(&c->work);
  free(c);
}

int commit_open(env *e) {
  committer *c = calloc(1, sizeof *c);
  if (!c) return fail(RESPOOL_NOMEM, "not enough memory to open a store");
  pthread_mutex_init(&c->lock, NULL);
  pthread_cond_init(&c->changed, NULL);
  pthread_cond_init(&c->work, NULL);
  unit_list_init(&c->waiting);
  unit_list_init(&c->kept);
  e->commit = c;
  e->closing = commit_close;
  return 0;
}

void commit_lock(env *e) {
  pthread_mutex_lock(&e->commit->lock);
}

void commit_unlock(env *e) {
  pthread_mutex_unlock(&e->commit->lock);
}

/* ---- leading ------------------------------------------------------------ */

/* Moves up to `max` units to an empty list. */
static void list_cut(unit_list *from, unit_list *to, int max) {
  unit_list_init(to);
  for (unit *u; max-- > 0 && (u = unit_list_pop(from));) unit_list_add(to, u);
}

static void finish(unit *u) {
  if (u->ended) {
    u->ended(u);
    return;
  }
  u->done = true;
  pthread_cond_signal(&u->wake);
}

/* One step of the leader: the engine runs what waits or, when nothing does,
   finishes what it has kept. Called with the lock held. */
static void lead(env *e) {
  committer *c = e->commit;
  unit_list group, kept, ended;
  list_cut(&c->waiting, &group, GROUP_MAX);
  list_cut(&c->kept, &kept, INT32_MAX);
  unit_list_init(&ended);
  pthread_mutex_unlock(&c->lock);
  e->engine->apply(e, &group, &kept, &ended);
  pthread_mutex_lock(&c->lock);
  for (unit *u; (u = unit_list_pop(&kept));) unit_list_add(&c->kept, u);
  for (unit *u; (u = unit_list_pop(&ended));) finish(u);
}

/* Wakes somebody who waits, to take over. */
static void hand_over(committer *c) {
  unit *u = c->kept.first ? c->kept.first : c->waiting.first;
  if (u) pthread_cond_signal(u->ended ? &c->work : &u->wake);
}

static void lead_until(env *e, unit *u) {
  committer *c = e->commit;
  while (!u->done) {
    if (c->has_leader) {
      pthread_cond_wait(&u->wake, &c->lock);
      continue;
    }
    c->has_leader = true;
    lead(e);
    c->has_leader = false;
  }
  if (!c->has_leader) hand_over(c);
}

int commit_unit(env *e, unit *u) {
  committer *c = e->commit;
  u->done = false;
  u->ended = NULL;
  pthread_cond_init(&u->wake, NULL);
  pthread_mutex_lock(&c->lock);
  unit_list_add(&c->waiting, u);
  lead_until(e, u);
  pthread_mutex_unlock(&c->lock);
  pthread_cond_destroy(&u->wake);
  if (u->rc) failure_tell(&u->failure);
  return u->rc;
}

/* ---- units without a waiter --------------------------------------------- */

static bool has_work(const committer *c) {
  return c->waiting.first || c->kept.first;
}

static void *lead_main(void *arg) {
  env *e = arg;
  committer *c = e->commit;
  pthread_mutex_lock(&c->lock);
  while (!c->stopping) {
    if (c->has_leader || !has_work(c)) {
      pthread_cond_wait(&c->work, &c->lock);
      continue;
    }
    c->has_leader = true;
    lead(e);
    c->has_leader = false;
  }
  pthread_mutex_unlock(&c->lock);
  return NULL;
}

static int need_thread(env *e) {
  committer *c = e->commit;
  if (!c->threaded && thread_start(&c->thread, lead_main, e))
    return fail(RESPOOL_NOMEM, "cannot start a thread");
  c->threaded = true;
  return 0;
}

int commit_start_locked(env *e, unit *u, int *running) {
  committer *c = e->commit;
  int rc = need_thread(e);
  if (rc) return rc;
  u->done = false;
  ++*running;
  unit_list_add(&c->waiting, u);
  if (!c->has_leader) pthread_cond_signal(&c->work);
  return 0;
}

int commit_start(env *e, unit *u, int *running) {
  commit_lock(e);
  int rc = commit_start_locked(e, u, running);
  commit_unlock(e);
  return rc;
}

void commit_ended(env *e, int *running) {
  --*running;
  pthread_cond_broadcast(&e->commit->changed);
}

void commit_wait_ended(env *e) {
  pthread_cond_wait(&e->commit->changed, &e->commit->lock);
}

void commit_drain(env *e, const int *running) {
  commit_lock(e);
  while (*running > 0) commit_wait_ended(e);
  commit_unlock(e);
}

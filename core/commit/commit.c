/* SPDX-License-Identifier: MIT */
/*
 * Group commit; see commit.h. Invariants:
 *
 *   1. At most one thread is the leader, and only it calls the engine's apply.
 *   2. A unit is in one list at a time: waiting, in the leader's group, kept
 *      by the engine, or over.
 *   3. Whenever a list is not empty some thread leads, or one of those who
 *      wait for a unit in it has been woken to lead; where nobody waits, and
 *      after a large group, that is the committer's own thread.
 */
#include "commit/commit.h"

#include <limits.h>
#include <stdlib.h>

#include "base/clock.h"
#include "threads/futex.h"
#include "threads/thread.h"
#include "threads/wait.h"

#define GROUP_MAX 256 /* units that the engine is given at once */
#define LARGE_GROUP 1000 /* us that it takes */
#define GATHER_PART 2 /* of a group's time: as long others are waited for */
#define GATHER_MOST 10000 /* us, as a group takes long where a server is away */
#define GATHER_REST 8 /* groups, after one for which nobody came */

typedef struct committer {
  pthread_mutex_t lock;
  unit_list waiting;      /* not run yet */
  unit_list kept;         /* run, but not over; see engine.h */
  bool has_leader;
  pthread_t leader;       /* the last to have been it */
  _Atomic uint32_t words[2]; /* futexes, by turns: those who come while a group
                                runs do not sleep beside its waiters */
  int turn;
  pthread_cond_t changed; /* a started unit has ended */
  pthread_t thread;       /* leads where nobody waits */
  pthread_cond_t work;    /* there may be something for it to lead */
  bool threaded, stopping;
  /* of the leader, while the engine waits for another process */
  int64_t until;          /* the first of the group to give up; 0: none */
  _Atomic bool leave;     /* one of the group has given up */
  bool stopped;           /* so has the leader's own thread */
  bool all_leave, gave_up;
  bool keeps, flush_first;
  /* of an engine that gathers */
  pthread_cond_t all_came;
  size_t answered, came; /* units of the last group; those added since */
  int64_t took;          /* us, of that group */
  int64_t answered_at;   /* when its waiters had been woken */
  int rests;
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
  pthread_cond_destroy(&c->all_came);
  free(c);
  e->goes_on = NULL;
}

static bool is_leader(committer *c) {
  pthread_mutex_lock(&c->lock);
  bool leads = c->has_leader && pthread_equal(c->leader, pthread_self());
  pthread_mutex_unlock(&c->lock);
  return leads;
}

/* Asked by the engine, mostly in the leader's thread. A unit that is committed
   already need not wait for another process. */
static bool goes_on(env *e, int64_t ms, const char *whom) {
  committer *c = e->commit;
  if (!is_leader(c)) return wait_goes_on(ms, whom);
  c->flush_first = c->keeps;
  c->gave_up = c->leave || c->keeps ||
               (c->until && clock_mono() >= c->until);
  if (c->gave_up) return false;
  c->gave_up = c->stopped = !wait_goes_on(ms, whom);
  return !c->gave_up;
}

int commit_open(env *e) {
  committer *c = calloc(1, sizeof *c);
  if (!c) return fail(RESPOOL_NOMEM, "not enough memory to open a store");
  pthread_mutex_init(&c->lock, NULL);
  cond_init_monotonic(&c->changed);
  pthread_cond_init(&c->work, NULL);
  cond_init_monotonic(&c->all_came);
  unit_list_init(&c->waiting);
  unit_list_init(&c->kept);
  e->commit = c;
  e->closing = commit_close;
  e->goes_on = goes_on;
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

/* Wakes some who sleep there, and keeps those who are about to from it. */
static void ring(committer *c, int turn, int n) {
  c->words[turn]++;
  futex_wake(&c->words[turn], FUTEX_PRIVATE, FUTEX_ANY, n);
}

/* The waiter of a unit, and with it the unit, may be gone as soon as it is
   done. One system call wakes all who wait for a group: it takes a fraction of
   what one for each of them does, in all and for the leader. The futex orders
   what `done` need not order for each. */
static void finish(committer *c, unit_list *over) {
  bool rings[2] = {false, false};
  for (unit *u; (u = unit_list_pop(over));) {
    rings[u->turn] = true;
    atomic_store_explicit(&u->done, true, memory_order_release);
  }
  for (int i = 0; i < 2; i++)
    if (rings[i]) ring(c, i, INT_MAX);
}

static bool gives_up(const committer *c, const unit *u) {
  return u->leaves || c->all_leave || (u->until && clock_mono() >= u->until);
}

/* Notes when the group has waited long enough. */
static void note_limits(committer *c, const unit_list *group) {
  c->until = 0;
  for (const unit *u = group->first; u; u = u->next)
    if (u->until && (!c->until || u->until < c->until)) c->until = u->until;
  c->leave = c->all_leave;
  c->stopped = c->gave_up = false;
  c->keeps = c->kept.first != NULL;
}

/* Those that came to LOCKED because of others in their group wait again,
   before all that came later. The lock is not held while the waiters of the
   others are woken, which takes a while and makes them ask for it. */
static void finish_all(committer *c, unit_list *ended) {
  unit_list again, over;
  unit_list_init(&again);
  unit_list_init(&over);
  for (unit *u; (u = unit_list_pop(ended));)
    if (u->rc == RESPOOL_LOCKED && c->gave_up && !gives_up(c, u))
      unit_list_add(&again, u);
    else if (u->ended)
      u->ended(u);
    else
      unit_list_add(&over, u);
  for (unit *u; (u = unit_list_pop(&c->waiting));) unit_list_add(&again, u);
  list_cut(&again, &c->waiting, INT32_MAX);
  if (!over.first) return;
  pthread_mutex_unlock(&c->lock);
  finish(c, &over);
  pthread_mutex_lock(&c->lock);
}

/* Adds a unit to those that wait. */
static void add_waiting(committer *c, unit *u) {
  unit_list_add(&c->waiting, u);
  if (++c->came == c->answered) pthread_cond_signal(&c->all_came);
}

/* Whoever was answered with the last group is likely to come again at once, and
   would find this one gone. So the leader waits for them, for a part of what a
   group takes. */
static void gather(committer *c) {
  int64_t part = c->took / GATHER_PART;
  int64_t until = c->answered_at + (part < GATHER_MOST ? part : GATHER_MOST);
  struct timespec t = {until / 1000000, until % 1000000 * 1000};
  if (c->rests > 0) c->rests--;
  if (c->rests || c->came >= c->answered) return;
  while (c->came < c->answered && clock_mono_us() < until)
    pthread_cond_timedwait(&c->all_came, &c->lock, &t);
  if (c->came < c->answered / 2) c->rests = GATHER_REST;
}

static void note_group(committer *c, const unit_list *ended, int64_t from) {
  c->answered = c->came = 0;
  c->took = clock_mono_us() - from;
  for (const unit *u = ended->first; u; u = u->next) c->answered++;
}

/* One step of the leader, whose own unit is `own` or NULL: the engine runs what
   waits or, when nothing does, finishes what it has kept. Called with the lock
   held. */
static void lead(env *e, unit *own) {
  committer *c = e->commit;
  unit_list group, kept, ended;
  bool flush = c->flush_first && c->kept.first;
  if (e->engine->gathers) gather(c);
  note_limits(c, &c->waiting);
  list_cut(&c->waiting, &group, flush ? 0 : GROUP_MAX);
  list_cut(&c->kept, &kept, INT32_MAX);
  unit_list_init(&ended);
  c->flush_first = false;
  c->turn = !c->turn;
  c->leader = pthread_self();
  int64_t from = clock_mono_us();
  pthread_mutex_unlock(&c->lock);
  e->engine->apply(e, &group, &kept, &ended);
  pthread_mutex_lock(&c->lock);
  note_group(c, &ended, from);
  for (unit *u; (u = unit_list_pop(&kept));) unit_list_add(&c->kept, u);
  if (c->stopped && own) own->leaves = true;
  bool rings = ended.first != NULL;
  finish_all(c, &ended);
  c->answered_at = clock_mono_us();
  if (rings) env_ring(e);
}

/* ---- the committer's thread ---------------------------------------------- */

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
    lead(e, NULL);
    c->has_leader = false;
  }
  pthread_mutex_unlock(&c->lock);
  return NULL;
}

static bool has_thread(env *e) {
  committer *c = e->commit;
  if (!c->threaded) c->threaded = !thread_start(&c->thread, lead_main, e);
  return c->threaded;
}

/* Wakes somebody who waits, to take over. After a large group that is the
   committer's thread: the engine's buffers stay those of one thread then, and
   its caches warm, for what it costs to wake one thread more. */
static void hand_over(env *e) {
  committer *c = e->commit;
  unit *u = c->kept.first ? c->kept.first : c->waiting.first;
  if (!u) return;
  if (u->ended || (c->took >= LARGE_GROUP && has_thread(e))) {
    pthread_cond_signal(&c->work);
    return;
  }
  ring(c, u->turn, 1);
}

/* Takes a unit that is not with the engine off the list. */
static bool withdraw(committer *c, unit *gone) {
  unit_list rest;
  bool found = false;
  unit_list_init(&rest);
  for (unit *u; (u = unit_list_pop(&c->waiting));)
    if (u == gone)
      found = true;
    else
      unit_list_add(&rest, u);
  list_cut(&rest, &c->waiting, INT32_MAX);
  return found;
}

/* A unit that gives up, while the engine waits for another process: it ends at
   once, or with the group that it is in. */
static void give_up(env *e, unit *u, const char *whom) {
  committer *c = e->commit;
  u->leaves = true;
  if (!withdraw(c, u)) {
    c->leave = true;
    return;
  }
  unit_note(u, wait_fail(NULL, whom));
  u->done = true;
}

static void name_of_other(const env *e, char whom[WHOM_MAX]) {
  wait_name(e->waits_for, whom);
}

/* Waits for the leader; where that may wait for another process itself, for a
   moment. True: the unit is over, and the lock is not held any more. */
static bool follow(env *e, unit *u, int64_t from) {
  committer *c = e->commit;
  char whom[WHOM_MAX];
  _Atomic uint32_t *word = &c->words[u->turn];
  uint32_t seen = *word;
  int64_t ms = e->engine->waits_for_others ? WAIT_STEP : FUTEX_FOREVER;
  pthread_mutex_unlock(&c->lock);
  if (!u->done) futex_wait(word, FUTEX_PRIVATE, seen, FUTEX_ANY, ms);
  if (u->done) return true;
  pthread_mutex_lock(&c->lock);
  if (u->done || !e->waits_for || u->leaves) return false;
  name_of_other(e, whom);
  if (gives_up(c, u) || !wait_goes_on(clock_mono() - from, whom))
    give_up(e, u, whom);
  return false;
}

/* Of a unit that has given up and is not in a group: it is over. */
static void lead_once(env *e, unit *u) {
  committer *c = e->commit;
  char whom[WHOM_MAX];
  c->has_leader = true;
  lead(e, u);
  c->has_leader = false;
  if (u->done || !gives_up(c, u)) return;
  name_of_other(e, whom);
  give_up(e, u, whom);
}

/* With the lock held, which it lets go. */
static void lead_until(env *e, unit *u) {
  committer *c = e->commit;
  int64_t from = clock_mono();
  while (!u->done) {
    if (!c->has_leader)
      lead_once(e, u);
    else if (follow(e, u, from))
      return; /* the leader hands over */
  }
  if (!c->has_leader) hand_over(e);
  pthread_mutex_unlock(&c->lock);
}

int commit_unit(env *e, unit *u) {
  committer *c = e->commit;
  u->leaves = false;
  u->ended = NULL;
  u->done = false;
  wait_begin();
  pthread_mutex_lock(&c->lock);
  u->turn = c->turn;
  add_waiting(c, u);
  lead_until(e, u);
  if (u->rc) failure_tell(&u->failure);
  return u->rc;
}

/* ---- units without a waiter --------------------------------------------- */

static int need_thread(env *e) {
  return has_thread(e) ? 0 : fail(RESPOOL_NOMEM, "cannot start a thread");
}

int commit_start_locked(env *e, unit *u, int *running) {
  committer *c = e->commit;
  int rc = need_thread(e);
  if (rc) return rc;
  u->done = false;
  ++*running;
  add_waiting(c, u);
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

/* A thread that gives up here has all give up, as the engine waits for another
   process with any of them. */
static void wait_ended(env *e, int64_t from) {
  committer *c = e->commit;
  struct timespec until;
  char whom[WHOM_MAX];
  clock_deadline(&until, WAIT_STEP);
  pthread_cond_timedwait(&c->changed, &c->lock, &until);
  if (!e->waits_for) return;
  name_of_other(e, whom);
  if (wait_goes_on(clock_mono() - from, whom)) return;
  c->all_leave = true;
  c->leave = true;
}

void commit_wait_while(env *e, bool (*waits)(const void *arg),
                       const void *arg) {
  committer *c = e->commit;
  int64_t from = clock_mono();
  wait_begin();
  while (waits(arg)) wait_ended(e, from);
  c->all_leave = false;
}

static bool is_running(const void *arg) {
  return *(const int *)arg > 0;
}

void commit_drain(env *e, const int *running) {
  commit_lock(e);
  commit_wait_while(e, is_running, running);
  commit_unlock(e);
}

/* SPDX-License-Identifier: MIT */
/*
 * Tickets as the header has them: of verbs, of a flush, and of calls, which
 * are functions that may block, run by one thread of the store one after the
 * other.
 */
#include "threads/wait.h"
#include "verbs/store/store.h"

#include <stddef.h>

/* ---- asking ------------------------------------------------------------- */

int respool_ticket_poll(respool_ticket *t) {
  return !t || store_check(t->store) || ticket_is_ready(t);
}

int respool_ticket_finish(respool_ticket *t, respool_result *out) {
  respool_result all = RESPOOL_RESULT_INIT;
  if (!t) return fail(RESPOOL_INVALID, "the ticket is NULL");
  if (!out) out = &all;
  int rc = store_check(t->store);
  if (!rc) rc = SIZE_CHECK(out, RESPOOL_RESULT_INIT);
  return rc ? rc : ticket_finish(t, out);
}

void respool_ticket_free(respool_ticket *t) {
  if (!t || store_check(t->store)) return; /* the parent's */
  ticket_drop(t);
}

int respool_ticket_waits(respool_ticket *t, int64_t *due, int64_t *left) {
  if (!t || store_check(t->store) || t->started || t->unit->done || !t->waits)
    return 0;
  t->waits(t, due, left);
  return 1;
}

void respool_ticket_whom(const respool_ticket *t, char whom[WHOM_MAX]) {
  int pid = t->env ? t->env->waits_for : 0;
  *whom = '\0';
  if (pid) wait_name(pid, whom);
}

void respool_ticket_give_up(respool_ticket *t) {
  int64_t due, left;
  if (respool_ticket_waits(t, &due, &left)) ticket_answer(t, 0);
}

int respool_wake(respool *s, int fd) {
  int rc = store_check(s);
  if (!rc) s->env->bell = fd < 0 ? 0 : fd + 1;
  return rc;
}

/* ---- flush -------------------------------------------------------------- */

int respool_flush_start(respool *s, respool_ticket **out) {
  int rc = store_check(s);
  if (rc) return rc;
  respool_ticket *t = store_ticket(s, sizeof(unit));
  if (!t) return RESPOOL_NOMEM;
  t->unit->durable = t->unit->barrier = true;
  if (!s->read_only) return ticket_give(t, store_start(t), out);
  ticket_answer(t, 0);
  *out = t;
  return 0;
}

/* ---- calls -------------------------------------------------------------- */

/* The unit of a call is run by no committer: it only bears the result. */
typedef struct call {
  unit unit;
  timer timer;
  respool_ticket *ticket;
  int (*run)(void *arg);
  void (*release)(void *arg);
  void *arg;
} call;

static call *call_of(timer *t) {
  return (call *)((char *)t - offsetof(call, timer));
}

/* The timer is over before the ticket is, whose memory it lies in. */
static void end_call(timer *self) {
  respool_ticket *t = call_of(self)->ticket;
  env *e = t->env;
  commit_lock(e);
  ticket_ended(t);
  commit_unlock(e);
  env_ring(e);
}

static int64_t run_call(timer *self) {
  call *c = call_of(self);
  unit_note(&c->unit, c->run(c->arg));
  timers_discard(&c->ticket->store->calls, self);
  return TIMER_NEVER;
}

static void dispose_call(respool_ticket *t) {
  call *c = (call *)t->unit;
  if (c->release) c->release(c->arg);
}

/* One more is running. A time long past, and past in the order of calls. */
static int64_t count_call(respool *s) {
  commit_lock(s->env);
  int64_t at = INT64_MIN + ++s->called;
  s->running++;
  commit_unlock(s->env);
  return at;
}

static void uncount_call(respool *s) {
  commit_lock(s->env);
  commit_ended(s->env, &s->running);
  commit_unlock(s->env);
}

int respool_call(respool *s, int (*run)(void *arg), void (*release)(void *arg),
                 void *arg, respool_ticket **out) {
  int rc = store_check(s);
  if (!rc && !run) rc = invalid("run", "given");
  if (rc) return rc;
  respool_ticket *t = store_ticket(s, sizeof(call));
  if (!t) return RESPOOL_NOMEM;
  call *c = (call *)t->unit;
  c->ticket = t;
  c->run = run;
  c->arg = arg;
  c->timer.run = run_call;
  c->timer.free = end_call;
  c->timer.at = count_call(s);
  t->started = true;
  c->release = release;
  t->dispose = dispose_call;
  rc = timers_add(&s->calls, &c->timer);
  if (!rc) {
    *out = t;
    return 0;
  }
  uncount_call(s);
  c->release = NULL; /* the argument stays the caller's */
  t->started = false;
  ticket_drop(t);
  return rc;
}

/* SPDX-License-Identifier: MIT */
/*
 * Tickets; see ticket.h. And those for calls: any function that may block,
 * run by one thread of the store, one after the other.
 */
#include "commit/ticket.h"

#include <stdlib.h>
#include <string.h>

#include "verbs/store.h"

typedef struct pin {
  respool_queue *queue;
  struct pin *next;
} pin;

/* ---- making ------------------------------------------------------------- */

respool_ticket *ticket_new(respool *s, size_t size) {
  respool_ticket *t = calloc(1, sizeof *t);
  if (t) {
    arena_init(&t->memory);
    t->op = arena_alloc(&t->memory, size);
  }
  if (!t || !t->op) {
    free(t);
    fail(RESPOOL_NOMEM, "not enough memory for a ticket");
    return NULL;
  }
  memset(t->op, 0, size);
  t->store = s;
  t->refs = 1;
  t->op->ticket = t;
  return t;
}

int ticket_pin(respool_ticket *t, respool_queue *q) {
  pin *p = arena_alloc(&t->memory, sizeof *p);
  if (!p) return fail(RESPOOL_NOMEM, "not enough memory for a ticket");
  *p = (pin){respool_queue_ref(q), t->pins};
  t->pins = p;
  return 0;
}

int ticket_copy(respool_ticket *t, respool_bytes *b) {
  int rc = b->size ? arena_copy(&t->memory, *b, b) : 0;
  return rc ? fail(rc, "not enough memory for a ticket") : 0;
}

int ticket_start(respool_ticket *t, int (*run)(txn *t, op *o), bool durable) {
  t->op->run = run;
  t->op->durable = durable && t->store->durable;
  int rc = commit_start(t->store->env, t->op, &t->store->running);
  if (!rc) t->running = true;
  return rc;
}

void ticket_answer(respool_ticket *t, int rc) {
  t->rc = rc;
  if (rc) strcpy(t->text, respool_error_text());
  t->op->done = true;
}

/* ---- ending ------------------------------------------------------------- */

static void land(respool_ticket *t) {
  if (t->landed) return;
  t->landed = true;
  if (t->land) t->land(t);
}

/* Nobody asks any more and nothing runs. With the lock held. */
static void dispose(respool_ticket *t) {
  land(t);
  if (t->dispose) t->dispose(t);
  for (pin *p = t->pins; p; p = p->next) respool_queue_free(p->queue);
  arena_free(&t->memory);
  free(t);
}

void ticket_ended(respool_ticket *t) {
  respool *s = t->store;
  if (t->again && !t->orphan && t->again(t))
    commit_start_locked(s->env, t->op, &s->running);
  else {
    t->op->done = true;
    if (t->orphan) dispose(t);
  }
  commit_ended(s->env, &s->running);
}

void ticket_drop(respool_ticket *t) {
  if (--t->refs > 0) return;
  env *e = t->store->env;
  pthread_mutex_lock(&e->commit.lock);
  if (t->op->done || !t->running)
    dispose(t);
  else
    t->orphan = true;
  pthread_mutex_unlock(&e->commit.lock);
}

int ticket_landed(respool_ticket *t, const char *what) {
  if (!t->op->done)
    return fail(RESPOOL_BUSY, "a ticket is at work on the %s", what);
  t->refs++;
  land(t);
  ticket_drop(t);
  return 0;
}

void ticket_await(respool_ticket *t) {
  committer *c = &t->store->env->commit;
  pthread_mutex_lock(&c->lock);
  while (t->running && !t->op->done)
    pthread_cond_wait(&c->changed, &c->lock);
  pthread_mutex_unlock(&c->lock);
}

/* ---- asking ------------------------------------------------------------- */

int respool_ticket_poll(respool_ticket *t) {
  if (!t || store_check(t->store)) return 1;
  if (!t->running && !t->op->done && t->look) t->look(t);
  return t->op->done;
}

/* What the operation, or whatever was to be done without one, answered. */
static int answer(const respool_ticket *t) {
  int rc = t->running ? t->op->rc : t->rc;
  if (rc) fail_text(t->running ? t->op->text : t->text);
  return rc;
}

int respool_ticket_finish(respool_ticket *t, respool_result *out) {
  respool_result all = RESPOOL_RESULT_INIT;
  if (!t) return invalid("ticket", "given");
  int rc = store_check(t->store);
  if (!rc && out && out->size != sizeof *out)
    rc = invalid("size", "set by _INIT");
  if (!rc && t->finished) rc = invalid("ticket", "not finished yet");
  if (!rc && !t->op->done)
    rc = fail(RESPOOL_BUSY, "the ticket is not ready yet");
  if (rc) return rc;
  t->finished = true;
  land(t);
  rc = answer(t);
  if (!out) out = &all;
  if (rc && t->explain) t->explain(t, out);
  return !rc && t->finish ? t->finish(t, out) : rc;
}

void respool_ticket_free(respool_ticket *t) {
  if (!t || store_check(t->store)) return; /* the parent's */
  ticket_drop(t);
}

/* ---- flush -------------------------------------------------------------- */

static int run_nothing(txn *t, op *o) {
  (void)t;
  (void)o;
  return 0;
}

int respool_flush_start(respool *s, respool_ticket **out) {
  int rc = store_check(s);
  if (rc) return rc;
  respool_ticket *t = ticket_new(s, sizeof(op));
  if (!t) return RESPOOL_NOMEM;
  t->op->barrier = true;
  rc = ticket_start(t, run_nothing, true);
  if (rc)
    ticket_drop(t);
  else
    *out = t;
  return rc;
}

/* ---- calls -------------------------------------------------------------- */

/* The operation of a call is run by no committer: it only bears the result. */
typedef struct call_op {
  op op;
  timer timer;
  respool_ticket *ticket;
  int (*run)(void *arg);
  void (*release)(void *arg);
  void *arg;
} call_op;

static call_op *call_of(timer *t) {
  return (call_op *)((char *)t - offsetof(call_op, timer));
}

/* The timer is over before the ticket is, whose memory it lies in. */
static void end_call(timer *self) {
  call_op *c = call_of(self);
  committer *m = &c->ticket->store->env->commit;
  pthread_mutex_lock(&m->lock);
  ticket_ended(c->ticket);
  pthread_mutex_unlock(&m->lock);
}

static int64_t run_call(timer *self) {
  call_op *c = call_of(self);
  c->op.rc = c->run(c->arg);
  if (c->op.rc) strcpy(c->op.text, respool_error_text());
  timers_discard(&c->ticket->store->calls, self, end_call);
  return TIMER_NEVER;
}

static void dispose_call(respool_ticket *t) {
  call_op *c = (call_op *)t->op;
  if (c->release) c->release(c->arg);
}

/* One more is running. A time long past, and past in the order of calls. */
static int64_t count_call(respool *s) {
  pthread_mutex_lock(&s->env->commit.lock);
  int64_t at = INT64_MIN + ++s->called;
  s->running++;
  pthread_mutex_unlock(&s->env->commit.lock);
  return at;
}

static void uncount_call(respool *s) {
  pthread_mutex_lock(&s->env->commit.lock);
  commit_ended(s->env, &s->running);
  pthread_mutex_unlock(&s->env->commit.lock);
}

int respool_call(respool *s, int (*run)(void *arg), void (*release)(void *arg),
                 void *arg, respool_ticket **out) {
  int rc = store_check(s);
  if (!rc && !run) rc = invalid("run", "given");
  if (rc) return rc;
  respool_ticket *t = ticket_new(s, sizeof(call_op));
  if (!t) return RESPOOL_NOMEM;
  call_op *c = (call_op *)t->op;
  *c = (call_op){.op = c->op, .ticket = t, .run = run, .arg = arg};
  c->timer.run = run_call;
  c->timer.at = count_call(s);
  t->running = true;
  c->release = release;
  t->dispose = dispose_call;
  rc = timers_add(&s->calls, &c->timer);
  if (!rc) {
    *out = t;
    return 0;
  }
  uncount_call(s);
  c->release = NULL; /* the argument stays the caller's */
  t->running = false;
  ticket_drop(t);
  return rc;
}

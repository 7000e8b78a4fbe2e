/* SPDX-License-Identifier: MIT */
/*
 * Tickets; see ticket.h.
 */
#include "commit/ticket.h"

#include <stdlib.h>
#include <string.h>

typedef struct pin {
  void *what;
  void (*release)(void *what);
  struct pin *next;
} pin;

/* ---- making ------------------------------------------------------------- */

static void unit_ended(unit *u) {
  ticket_ended(u->owner);
}

respool_ticket *ticket_new(env *e, int *running, size_t size) {
  respool_ticket *t = calloc(1, sizeof *t);
  if (t) {
    arena_init(&t->memory);
    t->unit = arena_alloc(&t->memory, size);
  }
  if (!t || !t->unit) {
    free(t);
    fail(RESPOOL_NOMEM, "not enough memory for a ticket");
    return NULL;
  }
  memset(t->unit, 0, size);
  t->unit->owner = t;
  t->unit->ended = unit_ended;
  t->env = e;
  t->running = running;
  t->refs = 1;
  return t;
}

void ticket_unmake(respool_ticket *t) {
  arena_free(&t->memory);
  free(t);
}

int ticket_pin(respool_ticket *t, void *what, void (*release)(void *what)) {
  pin *p = arena_alloc(&t->memory, sizeof *p);
  if (!p) return fail(RESPOOL_NOMEM, "not enough memory for a ticket");
  *p = (pin){what, release, t->pins};
  t->pins = p;
  return 0;
}

int ticket_copy(respool_ticket *t, respool_bytes *b) {
  int rc = b->size ? arena_copy(&t->memory, *b, b) : 0;
  return rc ? fail(rc, "not enough memory for a ticket") : 0;
}

int ticket_start(respool_ticket *t) {
  int rc = commit_start(t->env, t->unit, t->running);
  if (!rc) t->started = true;
  return rc;
}

void ticket_answer(respool_ticket *t, int rc) {
  t->rc = rc;
  if (rc) failure_keep(&t->failure);
  t->unit->done = true;
}

int ticket_give(respool_ticket *t, int rc, respool_ticket **out) {
  if (rc)
    ticket_drop(t);
  else
    *out = t;
  return rc;
}

/* ---- ending ------------------------------------------------------------- */

static void apply_result(respool_ticket *t) {
  if (t->applied) return;
  t->applied = true;
  if (t->apply_result) t->apply_result(t);
}

/* Frees a ticket without owner or running unit. The caller holds the lock. */
static void dispose(respool_ticket *t) {
  apply_result(t);
  if (t->dispose) t->dispose(t);
  for (pin *p = t->pins; p; p = p->next) p->release(p->what);
  arena_free(&t->memory);
  free(t);
}

int ticket_start_orphan(respool_ticket *t) {
  t->refs = 0;
  t->orphan = true;
  int rc = commit_start_locked(t->env, t->unit, t->running);
  t->started = !rc;
  t->unit->rc = rc;
  if (rc) dispose(t);
  return rc;
}

void ticket_ended(respool_ticket *t) {
  env *e = t->env;
  int *running = t->running;
  if (t->again && !t->orphan && t->again(t))
    (void)commit_start_locked(e, t->unit, running); /* its thread is there */
  else {
    t->unit->done = true;
    if (t->orphan) dispose(t);
  }
  commit_ended(e, running);
}

void ticket_drop(respool_ticket *t) {
  if (--t->refs > 0) return;
  env *e = t->env;
  commit_lock(e);
  if (t->unit->done || !t->started)
    dispose(t);
  else
    t->orphan = true;
  commit_unlock(e);
}

int ticket_applied(respool_ticket *t, const char *what) {
  if (!t->unit->done)
    return fail(RESPOOL_BUSY, "a ticket is at work on the %s", what);
  t->refs++;
  apply_result(t);
  ticket_drop(t);
  return 0;
}

static bool is_under_way(const void *arg) {
  const respool_ticket *t = arg;
  return t->started && !t->unit->done;
}

void ticket_await(respool_ticket *t) {
  commit_lock(t->env);
  commit_wait_while(t->env, is_under_way, t);
  commit_unlock(t->env);
}

/* ---- asking ------------------------------------------------------------- */

bool ticket_is_ready(respool_ticket *t) {
  if (!t->started && !t->unit->done && t->poll) t->poll(t);
  return t->unit->done;
}

/* The result of the unit, or of the verb that did without one. */
static int answer(const respool_ticket *t) {
  int rc = t->started ? t->unit->rc : t->rc;
  if (rc) failure_tell(t->started ? &t->unit->failure : &t->failure);
  return rc;
}

int ticket_finish(respool_ticket *t, respool_result *out) {
  if (t->finished)
    return fail(RESPOOL_INVALID, "the ticket is already finished");
  if (!t->unit->done)
    return fail(RESPOOL_BUSY, "the ticket is not ready yet");
  t->finished = true;
  apply_result(t);
  int rc = answer(t);
  if (rc && t->explain) t->explain(t, out);
  return !rc && t->finish ? t->finish(t, out) : rc;
}

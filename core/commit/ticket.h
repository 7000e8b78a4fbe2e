/* SPDX-License-Identifier: MIT */
/*
 * The ticket: a verb that was begun and is asked about later. It holds one
 * unit, copies of all that this needs, and what must stay until it has ended.
 * Invariants:
 *
 *   1. `unit->done` and `orphan` change with the committer's lock held. All
 *      else belongs to the thread that holds the ticket, or once it is an
 *      orphan to the one that runs its unit.
 *   2. `refs` counts the owners: the caller, and each batch and transaction
 *      that the unit works on. Without any it is an orphan, freed as soon as
 *      its unit has ended.
 *   3. While a ticket works on a batch, nothing of the batch but its items is
 *      read or changed; the result is noted in it by `apply_result`.
 */
#ifndef TICKET_H
#define TICKET_H

#include "base/arena.h"
#include "commit/commit.h"

struct respool_ticket {
  unit *unit;
  env *env;
  int *running;     /* counts the tickets of the store that run */
  respool *store;   /* the verbs' */
  arena memory;     /* what the unit needs, the unit too */
  struct pin *pins; /* what stays until the ticket is freed */
  int refs;
  bool started;     /* its unit was */
  bool orphan;
  bool applied, finished;
  int rc;           /* of a ticket that ran nothing */
  failure failure;
  /* Of the verb; each may be NULL. */
  void (*poll)(respool_ticket *t);  /* sees whether to start the unit */
  void (*waits)(respool_ticket *t, int64_t *due, int64_t *left);
  bool (*again)(respool_ticket *t); /* with the lock: is it to run again? */
  void (*apply_result)(respool_ticket *t); /* notes it in batches, once */
  int (*finish)(respool_ticket *t, respool_result *out);
  void (*explain)(respool_ticket *t, respool_result *out); /* a failure */
  void (*dispose)(respool_ticket *t); /* frees what was not given away */
};

/* A ticket with a unit of `size` bytes, zeroed; a `unit` lies at its head.
   NULL: no memory, and fail() was called. */
respool_ticket *ticket_new(env *e, int *running, size_t size);

/* Calls `release` with `what` when the ticket is freed. On failure nobody
   does. */
int ticket_pin(respool_ticket *t, void *what, void (*release)(void *what));

/* A copy that lives as long as the ticket. */
int ticket_copy(respool_ticket *t, respool_bytes *b);

/* Frees a ticket that was just made. */
void ticket_unmake(respool_ticket *t);

/* Starts the unit. On failure the ticket is as it was. */
int ticket_start(respool_ticket *t);

/* Starts a new ticket that nobody owns, with the lock held. On failure it is
   freed. */
int ticket_start_orphan(respool_ticket *t);

/* Ready at once, with this result: nothing to run. */
void ticket_answer(respool_ticket *t, int rc);

/* The unit has ended: called with the lock held. */
void ticket_ended(respool_ticket *t);

/* Waits until the unit has ended. */
void ticket_await(respool_ticket *t);

/* One owner less. */
void ticket_drop(respool_ticket *t);

/* 0 when the unit has ended and its result is noted, for a batch or
   transaction that then has no ticket any more; BUSY while it runs. */
int ticket_applied(respool_ticket *t, const char *what);

/* The result of a verb that makes a ticket: it is the caller's, or if `rc`
   is not 0, freed. */
int ticket_give(respool_ticket *t, int rc, respool_ticket **out);

bool ticket_is_ready(respool_ticket *t);

/* Reads the result, once. */
int ticket_finish(respool_ticket *t, respool_result *out);

#endif

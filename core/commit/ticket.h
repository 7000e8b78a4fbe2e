/* SPDX-License-Identifier: MIT */
/*
 * The ticket: a verb that was begun and is looked after later. It holds one
 * operation, copies of all that this needs, and the handles that must stay
 * until it has ended. Invariants:
 *
 *   1. `op->done` and `orphan` change with the committer's lock held. All
 *      else belongs to the thread that holds the ticket, or once it is an
 *      orphan to the one that runs its operation.
 *   2. `refs` counts who may still ask: its holder, and each batch and
 *      transaction that it is at work on. Without any it is an orphan, freed
 *      as soon as its operation has ended.
 *   3. Of a batch that a running ticket works on nothing is read or changed but
 *      its items; what became of it is noted when the ticket lands.
 */
#ifndef TICKET_H
#define TICKET_H

#include "base/arena.h"
#include "commit/commit.h"

struct respool_ticket {
  op *op;
  respool *store;
  arena memory;     /* what the operation needs, the operation too */
  struct pin *pins; /* queues that stay until it is freed */
  int refs;
  bool running;     /* its operation was started */
  bool orphan;
  bool landed, finished;
  int rc;           /* of a ticket that ran nothing */
  char text[FAIL_LINE];
  /* Of the verb, each may be NULL: looks whether to start the operation;
     tells, with the lock held, whether it is to run again; notes what it did
 to batches; gives its result, once; or says more of a failure; frees what is
     not taken. */
  void (*look)(respool_ticket *t);
  bool (*again)(respool_ticket *t);
  void (*land)(respool_ticket *t);
  int (*finish)(respool_ticket *t, respool_result *out);
  void (*explain)(respool_ticket *t, respool_result *out);
  void (*dispose)(respool_ticket *t);
};

/* A ticket with an operation of `size` bytes, zeroed; its `op` lies at their
   head. NULL: no memory, and fail() was called. */
respool_ticket *ticket_new(respool *s, size_t size);

/* Keeps a queue's handle until the ticket is freed. */
int ticket_pin(respool_ticket *t, respool_queue *q);

/* A copy that lives as long as the ticket. */
int ticket_copy(respool_ticket *t, respool_bytes *b);

/* Starts the operation. On failure the ticket is as it was. */
int ticket_start(respool_ticket *t, int (*run)(struct txn *t, op *o),
                 bool durable);

/* Ready at once, with this result: nothing to run. */
void ticket_answer(respool_ticket *t, int rc);

/* The operation has ended: called by its committer, with the lock held. */
void ticket_ended(respool_ticket *t);

/* Waits until the operation has ended. */
void ticket_await(respool_ticket *t);

/* A batch or transaction asks no more. */
void ticket_drop(respool_ticket *t);

/* 0 when the operation has ended and what it did is noted, for a batch or
   transaction that asks and then knows of no ticket; BUSY while it runs. */
int ticket_landed(respool_ticket *t, const char *what);

#endif

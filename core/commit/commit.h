/* SPDX-License-Identifier: MIT */
/*
 * Group commit. Every write is an operation; whoever needs its result and
 * finds no leader becomes the leader, runs all waiting operations in one
 * transaction, commits and wakes the others. Operations that nobody waits for,
 * those of tickets, are led by a thread that the first of them starts.
 *
 * A commit flushes the data; what makes the commit itself durable is the
 * flush of the next one, or an explicit one when nothing is waiting. A
 * durable operation returns after that, another one after the commit.
 */
#ifndef COMMIT_H
#define COMMIT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/histogram.h"

struct env;
struct txn;

/* An operation, embedded at the head of its arguments. `run` may be called
   again after a transaction was given up, so it sets its outputs anew.
   A durable one that relies on a commit returns when that is on disk, also
   when it has written nothing itself. */
typedef struct op {
  int (*run)(struct txn *t, struct op *o);
  bool durable; /* returns when on disk */
  bool barrier; /* and what was committed before it, too */
  _Atomic bool done;
  bool wrote;
  bool relies;  /* set by `run`: told of what another's commit has made */
  bool stands;  /* set by `run`: what it wrote is to stay though it failed */
  int rc;
  char text[FAIL_LINE];
  pthread_cond_t wake;
  struct respool_ticket *ticket; /* NULL: somebody waits for it */
  struct op *next;
} op;

typedef struct op_list {
  op *first, **end;
} op_list;

typedef struct committer {
  pthread_mutex_t lock;
  op_list waiting;   /* not run yet */
  op_list unflushed; /* committed; their callers wait for a flush */
  bool led;
  bool behind;       /* a commit was made, perhaps, that is not flushed */
  uint64_t version;  /* rises with every commit */
  pthread_cond_t changed;
  pthread_t thread;    /* leads when nobody waits */
  pthread_cond_t work; /* there may be something for it to lead */
  bool threaded, stopping;
  respool_histogram took;  /* commits, in microseconds */
  respool_histogram operations; /* operations that one did */
} committer;

void committer_init(committer *c);
void committer_destroy(committer *c);

/* Runs `o` and returns its result, leaving its words to
   respool_error_text. */
int commit_op(struct env *e, op *o);

/* Begins an operation and returns; once it is done, ticket_ended(o->ticket)
   is called with the lock held, and nothing here touches `o` any more. The
   committer counts it in `*running` meanwhile. NOMEM: no thread for it. */
int commit_start(struct env *e, op *o, int *running);

/* With the lock held: the same, when there is a thread already. */
void commit_start_locked(struct env *e, op *o, int *running);

/* Waits until `*running`, which the lock guards, is 0. */
void commit_drain(struct env *e, const int *running);

/* One less is running, which wakes those who wait for a change: with the
   lock held. */
void commit_ended(struct env *e, int *running);

/* Ends the thread, which has nothing left to do. */
void commit_stop(struct env *e);

/* Everything committed before is on disk on return. */
int commit_flush(struct env *e);

/* Runs a read in a transaction of its own. */
int commit_read(struct env *e, int (*run)(struct txn *t, op *o), op *o);

/* What commits of this process have taken and carried. */
void commit_figures(struct env *e, respool_histogram *took,
                    respool_histogram *operations);

/* The number of commits this process has made, and a wait for it to move
   away from `seen` or for `ms` to pass. */
uint64_t commit_version(struct env *e);
void commit_wait(struct env *e, uint64_t seen, int64_t ms);

#endif

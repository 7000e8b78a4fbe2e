/* SPDX-License-Identifier: MIT */
/*
 * Runs of lone items: each is sorted by name, and has the items that were
 * pushed between two others. An item stays in its run when it has ended; a run
 * goes when all of its items have.
 */
#ifndef LONE_RUNS_H
#define LONE_RUNS_H

#include "base/arena.h"
#include "lmdb/env/txn/cur.h"
#include "lmdb/record/records.h"

typedef struct lone {
  respool_bytes name; /* of the partition */
  uint64_t id;
  int priority;
  bool found; /* an answer */
} lone;

int names_compare(respool_bytes a, respool_bytes b);

/* Has the item not ended, nor left the space that it was pushed to? */
bool lone_is_there(txn *t, const queue *q, const lone *x);

/* A walk over the items of a run, which may have ended, in the order of their
   names. */
typedef struct run_walk {
  const queue *q;
  uint64_t run; /* its number */
  cur c;
  const uint8_t *at, *end; /* in a record: the item here, and its end */
  size_t size; /* of the item here */
  bool more;   /* there is one */
  lone here;
  int rc;      /* CORRUPT or NOMEM: a record cannot be read */
} run_walk;

/* Begins with the first item whose name is not before `from`. */
void run_walk_from(run_walk *w, txn *t, const queue *q, const lone_run *r,
                   respool_bytes from);
/* Goes on to the first one, from here on, whose name is not before `name`. */
void run_walk_to(run_walk *w, respool_bytes name);
void run_walk_on(run_walk *w);
void run_walk_end(run_walk *w);

/* Adds items, sorted and newer than all others. */
void runs_add(txn *t, queue *q, const lone *list, size_t n);

/* Removes some of what has ended. */
void runs_trim(txn *t, queue *q);

#endif

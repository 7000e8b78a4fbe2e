/* SPDX-License-Identifier: MIT */
/*
 * Small units, done in the journal: a plain push, a take, a settle of items
 * that are all done, or that and a take. All others are left to LMDB.
 *
 * Plain is a queue without bounds, history, strict order, weights, rate and
 * breaker that is not held, and a push without key, delay, payload version and
 * large items. Pushes that wait together, and differ in their items alone,
 * become one record. The leader alone calls this.
 */
#ifndef LMDB_SMALL_H
#define LMDB_SMALL_H

#include "lmdb/env/txn/txn.h"

/* The effects of a group in the journal. */
typedef struct small_group {
  uint64_t end; /* to be flushed before durable units are over */
  bool late;    /* units wrote whose flush may be late */
  bool wrote;   /* any unit */
  bool due;     /* a half is to be applied */
} small_group;

/* How many units, from this one on, are done, with their results: one, or
   several that push alike. 0: LMDB goes on with it from step u->ran. */
size_t small_run(lmdb_env *e, unit *u, small_group *g);

/* After a flush: wakes as many takes that wait as the unit has pushed items. */
void small_wake(lmdb_env *e, const unit *u);

/* Flushes the journal. */
int small_flush(lmdb_env *e);

/* The same up to the `end` of what units of the leader's group have done. */
int small_flush_to(lmdb_env *e, uint64_t end);

/* Flushes what relaxed units have done, once a second. */
int small_flush_late(lmdb_env *e);

/* Syncs LMDB, and gives the journal back what it has applied. */
int small_sync(lmdb_env *e);

/* After a commit of LMDB: syncs it when the journal needs the room that this
   gives back. */
void small_catch_up(lmdb_env *e);

/* Applies the older half, and gives it back. */
void small_apply_old(lmdb_env *e);

/* After a flush that failed: applies all to LMDB, and makes a new journal. */
int small_mend(lmdb_env *e);

void small_forget(lmdb_env *e); /* frees what is known of queues */

#endif

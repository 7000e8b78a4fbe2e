/* SPDX-License-Identifier: MIT */
/*
 * The journal's part of a write transaction. The journal's write lock is held
 * until after the transaction has ended; waits for it are short, as its holder
 * has the turn to write, or no transaction of LMDB. The journal's items are
 * applied when a step wants a queue that has some there:
 *
 *   ready items    to the line of new ones; an item whose place there was
 *                  passed already is delayed until now
 *   leased items   to SPACE_JOURNAL, under a claim for each lease
 *   damaged items  to the DLQ
 *
 * Before the commit the journal learns that LMDB may have items to deliver
 * of each queue that changed, and after it from when on. Without a journal all
 * functions do nothing.
 */
#ifndef JOURNALED_H
#define JOURNALED_H

#include "lmdb/journal/journal.h"
#include "lmdb/record/records.h"

/* Takes the turn to write, and the journal's write lock, without a
   transaction. LOCKED: the wait for another process was given up. */
int journaled_enter(lmdb_env *e);
void journaled_leave(lmdb_env *e);

/* Once it has begun: takes the write lock, and finishes the application of a
   process that died. */
int journaled_begin(txn *t);

/* LMDB's position in the journal. */
journal_applied journaled_position(txn *t);

/* Applies what the journal holds, once: JOURNAL_ALL or JOURNAL_OLD. */
int journaled_apply(txn *t, int what);

/* Puts items, sorted by queue and id, and counts them by their states. */
int journaled_put(txn *t, const journal_item *of, size_t n);

/* Adds figures of the journal to a queue's. */
void journaled_add(respool_queue_stats *to, const journal_figures *from);

/* NULL: there is none. */
queue *queue_by_number(txn *t, uint64_t number);

/* Applies all if there are items of the queue; NULL: of any queue. */
int journaled_touch(txn *t, const char *name);

/* Does the next step of the queue set its clock, which counts for what the
   journal holds? */
bool journaled_clock_moves(txn *t, const char *name, int64_t wall);

/* Takes ids for a push, and a token for a take. */
uint64_t journaled_ids(txn *t, queue *q, uint64_t n);
int journaled_token(txn *t, queue *q, uint64_t worker, uint64_t *token);

/* The queue is dropped with this transaction. False, or t->rc: the journal has
   records of it, which this one applies; another is to drop it. */
bool journaled_forget(txn *t, const queue *q);

/* Before the commit, and after it or the abort, with its result. */
int journaled_store(txn *t);
void journaled_end(txn *t, int rc);

/* From when on LMDB has an item to hand out; JOURNAL_NEVER: it has none. */
int64_t queue_ready_at(txn *t, const queue *q);

/* The key by which takes wait for the queue. */
uint64_t queue_word(const char *name);

#endif

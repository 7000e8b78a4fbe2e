/* SPDX-License-Identifier: MIT */
/*
 * The state of queues: loaded once a transaction, changed in memory, stored
 * when the transaction commits.
 */
#ifndef STATE_H
#define STATE_H

#include "lmdb/record/records.h"

/* Loads it; NULL with NOT_FOUND when there is none. */
queue *queue_find(txn *t, const char *name, int *rc);
queue *queue_loaded(txn *t, uint64_t id); /* NULL: it is not */
queue *queue_make(txn *t, const char *name);
void queue_changed(txn *t, queue *q);
void queues_store(txn *t); /* those that changed */
void queues_free(queue *q);
void queues_forget(txn *t, queue *q); /* it was deleted */

/* NULL: the priority has no items. */
priority_state *queue_priority(const queue *q, int priority);
priority_state *queue_priority_make(txn *t, queue *q, int priority);

/* The queue's time: the wall clock, except that it never goes back. */
int64_t queue_now(const queue *q, int64_t wall);
int64_t queue_advance_clock(txn *t, queue *q, int64_t wall); /* and stores it */
bool queue_clock_went_back(const queue *q, int64_t wall);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The live items of a queue in the journal, for queries: read from the block
 * before the snapshot of LMDB, and valid if the journal was not applied in
 * between. Read-only handles read the journal's file with the snapshot, and see
 * no leases. So do those that would have to wait for a process that stands
 * still within the journal; they see leases as the block has them.
 */
#ifndef LIVE_H
#define LIVE_H

#include "lmdb/journal/journal.h"
#include "lmdb/record/records.h"

typedef struct live {
  uint64_t from;       /* in: the items from this id on, */
  size_t max;          /* so many at most; 0: only their counts */
  journal_counts counts;
  journal_seen *items; /* by id; from the file all from `from` on */
  size_t n, cap;
  uint64_t number;     /* of the queue; 0: there is none */
  int64_t now;         /* the queue's time */
  arena memory;
} live;

/* Begins the snapshot, with what is live in `l`. After a failure there is
   nothing to close. */
int live_begin(env *e, const char *name, int64_t wall, live *l, txn **t);
void live_close(live *l);

void live_add_stat(const live *l, respool_queue_stats *out);
/* Adds the leases that have not run out. */
int live_leases(const live *l, struct leases *out);

void live_add_outlook(const live *l, outlook *out); /* not to due_in */

/* Adds the items that are ready to those of a peek, by priority. */
int live_peek(const live *l, size_t limit, respool_page *p);

/* Adds one item; false when it is not here. */
bool live_get(const live *l, uint64_t id, respool_page *p, int *rc);

/* Is an item that is here leased under the token? False when it is not here. */
bool live_held(const live *l, uint64_t id, uint64_t token, bool *yes);

/* Adds the `k`th item if it is in this state; -1: any. */
int live_browse(const live *l, size_t k, int state, respool_page *p);

/* Adds an item of the journal to a page in whose memory its bytes lie; one that
   cannot be read is left out, and *out NULL. False when out of memory. */
bool live_show(respool_page *p, const journal_item *i, int state,
               respool_item **out);

#endif

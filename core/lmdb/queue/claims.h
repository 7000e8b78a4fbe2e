/* SPDX-License-Identifier: MIT */
/*
 * Claims: which ids are out of the line, until when and why.
 */
#ifndef CLAIMS_H
#define CLAIMS_H

#include "lmdb/record/records.h"
#include "record/page.h"

bool claim_get(txn *t, const place *p, claim *c);

/* The same to look at; one that is damaged is passed over. */
bool claim_look(txn *t, const place *p, claim *c);

/* The claim that this due time belongs to, made anew where it is damaged: it
   has the items that lie before the next one, which I2 says are its own, and
   knows no more of them. False when there are none. */
bool claim_mend(txn *t, queue *q, const due_key *d, claim *c);

/* Copies what a claim borrows from the map, which a change may move. */
void claim_own(txn *t, arena *a, claim *c);
void claim_put(txn *t, const place *p, const claim *c);
/* Replaces `old`, which is at the same place. */
void claim_move(txn *t, const place *p, const claim *old, const claim *c);
void claim_del(txn *t, const place *p, const claim *old);

/* The claim whose range holds `id`. */
bool claim_cover(txn *t, const line *l, uint64_t id, place *p, claim *c);

/* The next ids of a line, from `*from` on, that no claim covers: up to `*upto`;
   false when there are none. */
bool claim_gap(txn *t, const line *l, uint64_t *from, uint64_t *upto);

/* The first claim of the queue at or behind place `from`. */
bool claim_next(txn *t, const queue *q, place from, place *p, claim *c);

/* The claim of a priority that is due first; false: it has none. */
bool claim_first_due(txn *t, const queue *q, int priority, due_key *d);

/* The same if it is due by now; looks only when one may be. */
bool claim_due(txn *t, queue *q, int priority, int64_t now, due_key *d);

/* Counts `n` items of a priority from one state to another. */
enum count {
  COUNT_NONE, COUNT_READY, COUNT_LEASED, COUNT_SCHEDULED, COUNT_RETRYING
};
void priority_count(txn *t, queue *q, int priority, enum count from,
                    enum count to, uint64_t n);

/* The state in which the items of a claim count. */
enum count claim_count(const claim *c);

/* The same once they wait. */
enum count claim_count_waiting(const claim *c);

/* Adds a failure to packed failures; memory is the arena's. */
respool_bytes failures_with(txn *t, arena *a, respool_bytes old, int64_t at,
                            const outcome_text *w);

/* Has the claim a lease that has not run out? */
bool claim_held(const claim *c, int64_t now);

/* The counts and failures of a claim whose lease ran out without an outcome:
   one crash more, which is a failure; memory is the arena's. */
void claim_crash(txn *t, arena *a, claim *c);

/* Such a claim waits, and its token is no longer current. */
void claim_lapse(txn *t, queue *q, int priority, arena *a, claim *c);

/* Some items of a claim whose lease ran out end, before a take meets it: nobody
   holds it any more. Those of partitions are leased still, until the take, and
   the caller counts the crash of those that end. */
void claim_end_lease(txn *t, queue *q, const line *l, arena *a, claim *c);

/* The claim that a batch holds. False when its lease is no longer the
   batch's: the queue was dropped and made anew, or leased it again. */
bool batch_claim_find(txn *t, const queue *q, const batch_claim *h,
                      uint64_t token, place *p, claim *c);

/* Were any of the claims leased in the journal? */
bool claims_journaled(const batch_claim *claims, size_t n);

/* Takes one unsettled item out of the claim that covers it, if any, and says
   in which state it counted; false when it is leased. */
bool claims_take_out(txn *t, queue *q, const line *l, uint64_t id, int64_t now,
                     enum count *from);

/* The first item of space PARTED of a priority that no claim covers;
   UINT64_MAX: there is none. */
uint64_t first_listed(txn *t, const queue *q, int priority);

/* Passes over claims before it, so many and some at most, so that nobody has to
   again. */
void pass_unlisted(txn *t, queue *q, int priority, size_t most);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Delivering items into the batch of a take: from claims that are due, and
 * new items from the head of a priority.
 */
#ifndef DELIVER_H
#define DELIVER_H

#include "lmdb/record/records.h"
#include "record/page.h"

/* A take in progress. */
typedef struct take_run {
  txn *t;
  queue *q;
  respool_batch *batch;
  claim_req *r;
  int64_t now, until;
  uint64_t weight; /* bytes of bodies so far */
  uint64_t cap;    /* items that the batch may reach now */
  int woken;       /* claims of items of partitions */
  bool full;
  int rc; /* NOSPACE: expired items stay where they are, and end the take */
} take_run;

/* Can the batch hold no more, or must it not? */
bool take_is_full(const take_run *run);

/* Delivers a claim that is due, up to id `upto`; false when it must wait for
   a batch of its own. */
bool deliver_due_claim(take_run *run, const place *p, uint64_t upto);

/* Delivers items of a line that have no claim yet: `ids`, which rise, `n` at
   least one. */
void deliver_ids(take_run *run, const line *l, const uint64_t *ids, size_t n);

/* Delivers the one item of a parked claim. */
void deliver_parked(take_run *run, const place *p);

/* Loads a claim that is due, made anew where it is damaged. */
bool take_load_claim(take_run *run, const place *p, claim *c);

/* The one item of a claim has crashed as often as it may? Then it becomes a
   dead letter; `old` is the claim as stored, `c` as it waits. */
bool take_ends_crashed(take_run *run, const place *p, const claim *old,
                       const claim *c);

/* Delivers a priority's new items, up to id `upto`. */
void deliver_new_items(take_run *run, int priority, uint64_t upto);

#endif

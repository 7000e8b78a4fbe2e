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
  bool full;
  int rc; /* NOSPACE: expired items stay where they are, and end the take */
} take_run;

/* Can the batch hold no more, or must it not? */
bool take_is_full(const take_run *run);

/* Delivers a claim that is due, up to id `upto`; false when it must wait for
   a batch of its own. */
bool deliver_due_claim(take_run *run, const place *p, uint64_t upto);

/* Delivers a priority's new items, up to id `upto`. */
void deliver_new_items(take_run *run, int priority, uint64_t upto);

#endif

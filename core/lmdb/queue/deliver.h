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
typedef struct grab {
  txn *t;
  queue *q;
  respool_batch *batch;
  claim_req *r;
  int64_t now, until;
  uint64_t weight; /* bytes of bodies so far */
  uint64_t cap;    /* items that the batch may reach now */
  bool full;
  int rc; /* NOSPACE: expired items stay where they are, and end the take */
} grab;

/* Can the batch hold no more, or must it not? */
bool grab_full(const grab *g);

/* Delivers a claim that is due, up to id `upto`; false when it must wait for
   a batch of its own. */
bool grab_claim_due(grab *g, const place *p, uint64_t upto);

/* Delivers a priority's new items, up to id `upto`. */
void grab_fresh(grab *g, int priority, uint64_t upto);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * A take in progress, as its two orders share it: take.c serves what is due
 * and then what is fresh, order.c strictly by id.
 */
#ifndef TAKE_H
#define TAKE_H

#include "parts.h"

typedef struct grab {
  txn *t;
  queue *q;
  respool_lot *lot;
  claim_req *r;
  int64_t now, until;
  uint64_t weight; /* bytes of bodies so far */
  bool full;
} grab;

/* Nothing more fits in the lot, or may. */
bool grab_full(const grab *g);

/* Hands out a claim that is due, up to id `upto`; false when it must wait for
   a lot of its own. */
bool grab_claim_due(grab *g, const place *p, uint64_t upto);

/* Hands out a lane's fresh items, up to id `upto`. */
void grab_fresh(grab *g, int lane, uint64_t upto);

/* Hands out from the lane's earliest source, if that may go. */
void grab_ordered(grab *g, int lane);

#endif

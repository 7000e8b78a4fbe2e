/* SPDX-License-Identifier: MIT */
/*
 * A take in progress, as its two orders share it: take.c serves what is due
 * and then what is fresh, order.c strictly by id.
 */
#ifndef TAKE_H
#define TAKE_H

#include "lmdb/parts.h"

typedef struct grab {
  txn *t;
  queue *q;
  respool_batch *batch;
  claim_req *r;
  int64_t now, until;
  uint64_t weight; /* bytes of bodies so far */
  uint64_t cap;    /* items that the batch may reach now */
  bool full;
  int rc; /* NOSPACE: what has expired stays where it is, and ends the take */
} grab;

/* Nothing more fits in the batch, or may. */
bool grab_full(const grab *g);

/* Hands out a claim that is due, up to id `upto`; false when it must wait for
   a lot of its own. */
bool grab_claim_due(grab *g, const place *p, uint64_t upto);

/* Hands out a priority's fresh items, up to id `upto`. */
void grab_fresh(grab *g, int priority, uint64_t upto);

/* Hands out what a priority has, up to the cap. */
void grab_priority(grab *g, int priority);

/* The priority below this one that holds items; -1: none. */
int priority_below(const queue *q, int priority);

/* Hands out of all priorities by their weights. */
void grab_shares(grab *g);

/* The earliest time a claim of the priority is due; false: it has none. */
bool first_due(txn *t, const queue *q, int priority, due_key *d);

/* When the priority's earliest item may go; 0: at once, INT64_MAX: it has
   none. */
int64_t order_due(txn *t, const queue *q, const priority_state *l);

/* Hands out from the priority's earliest source, if that may go. */
void grab_ordered(grab *g, int priority);

#endif

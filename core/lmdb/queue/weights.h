/* SPDX-License-Identifier: MIT */
/*
 * Weighted priorities: how many items of a batch each priority may give.
 */
#ifndef WEIGHTS_H
#define WEIGHTS_H

#include "lmdb/record/records.h"

typedef struct share {
  int priority;
  int64_t weight, credit;
  uint64_t items;
} share;

typedef struct shares {
  share of[RESPOOL_PRIORITIES];
  size_t n;
  int64_t sum;
} shares;

/* Shares `items` out to the priorities that have something now, and stores
   their credit. Fewer than two such priorities need no shares: then `n` is 0.
   */
void weights_share(txn *t, queue *q, int64_t now, uint64_t items, shares *d);

#endif

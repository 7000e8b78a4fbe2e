/* SPDX-License-Identifier: MIT */
/*
 * The batch: the items of one take, with the claims that hold them and the
 * outcome marked for each.
 */
#ifndef BATCH_H
#define BATCH_H

#include "base/histogram.h"
#include "record/page.h"

/* One claim in a batch: items [from, to) of its page. */
typedef struct batch_claim {
  uint32_t queue;
  int space, priority;
  uint64_t first; /* with the fields above: the claim's key */
  uint64_t last;  /* the server engine's own: the last id of its run */
  size_t from, to;
  uint64_t attempts, crashes, deliveries;
  int64_t delay; /* before this attempt */
  respool_bytes failures, memo;
  bool lost; /* found lost by the last operation */
  bool over; /* all its items are settled */
} batch_claim;

/* The outcome marked for one item. */
typedef struct mark {
  int kind;
  bool settled, outage;
  int64_t delay;
  const struct outcome_text *text; /* or NULL */
} mark;

/* The texts of an outcome, in the batch's arena and shared by all items that
   were marked together. */
typedef struct outcome_text {
  respool_bytes error, trace, group, memo;
  const char *reason, *dlq;
} outcome_text;

struct respool_batch {
  respool_page page;
  mark *marks;
  batch_claim *claims;
  size_t n_claims, cap_claims;
  uint64_t token;
  int64_t lease, max_lease;
  size_t lost;
  respool_refusal *refused; /* pushes of the last settle; in the arena */
  size_t n_refused;
  respool_histogram observed; /* since the last settle */
  respool_queue *queue;
  struct timer *renewal; /* set while the lease is renewed */
  struct respool_ticket *ticket; /* at work on it */
  bool doomed;       /* freed by its owner: the ticket frees it */
};

batch_claim *batch_add_claim(respool_batch *batch);
int batch_lost_error(const char *queue, size_t lost); /* LEASE_LOST */
void batch_clear(respool_batch *batch); /* empty, ready to be filled again */

#endif

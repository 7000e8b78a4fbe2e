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
  uint64_t last;  /* the server engine's own: the last id of its run, */
  int excuse;     /* and what its outages are taken for; see outcome.h */
  size_t from, to;
  uint64_t attempts, crashes, deliveries;
  int64_t delay; /* before this attempt */
  respool_bytes failures, memo;
  bool lost; /* found lost by the last operation */
  size_t gone; /* items of it that were cancelled; see mark.gone */
  bool over; /* all its items are settled */
} batch_claim;

/* The outcome marked for one item. */
typedef struct mark {
  int kind;
  bool settled, outage;
  bool gone; /* of a batch's own marks: cancelled, as its engine has found */
  int64_t delay;
  const struct outcome_text *text; /* or NULL */
} mark;

/* The texts of an outcome, in the batch's arena and shared by all items that
   were marked together. */
typedef struct outcome_text {
  respool_bytes error, trace, group, memo, result;
  const char *reason, *dlq;
} outcome_text;

struct respool_batch {
  respool_page page;
  mark *marks; /* in the arena; NULL: none was made */
  batch_claim *claims;
  size_t n_claims, cap_claims;
  uint64_t token;
  int64_t lease, max_lease;
  size_t lost;
  respool_refusal *refused; /* pushes of the last settle; in the arena */
  size_t n_refused;
  respool_histogram observed; /* since the last settle */
  respool_queue *queue;
  respool *store; /* which keeps its memory: the queue may be freed first */
  struct timer *renewal; /* set while the lease is renewed */
  struct respool_ticket *ticket; /* at work on it */
  bool doomed;       /* freed by its owner: the ticket frees it */
  struct respool_batch *next_kept; /* in its store's list of batches to come */
};

/* Is the item settled, or cancelled? Asked for each item, hence inline. */
static inline bool batch_is_over(const respool_batch *batch, size_t i) {
  return batch->marks && (batch->marks[i].settled || batch->marks[i].gone);
}

/* Makes room for the marks, if there are items and none was made. NOMEM. */
int batch_make_marks(respool_batch *batch);

/* Notes that items of a claim were cancelled, which `has` says of an unsettled
   one: is it still there? NOMEM. */
int batch_note_gone(respool_batch *batch, batch_claim *h,
                    bool (*has)(void *arg, uint64_t id), void *arg);

batch_claim *batch_add_claim(respool_batch *batch);
int batch_lost_error(const char *queue, size_t lost); /* LEASE_LOST */
void batch_clear(respool_batch *batch); /* empty, ready to be filled again */
void batch_free_memory(respool_batch *batch); /* and nothing else */

#endif

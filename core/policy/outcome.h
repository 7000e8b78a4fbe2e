/* SPDX-License-Identifier: MIT */
/*
 * Outcomes: what becomes of the items of a claim by their marks, the queue's
 * policy and its limits. All engines compute it here.
 */
#ifndef OUTCOME_H
#define OUTCOME_H

#include "policy/policy.h"
#include "record/batch.h"

/* Which failures of an outage spend no attempt: none, those that would be an
   item's last, or all. */
enum excuse { EXCUSE_NONE, EXCUSE_LAST, EXCUSE_ALL };

enum outcome {
  STILL_LEASED,
  OUTCOME_DONE,
  OUTCOME_DROP,
  OUTCOME_DEAD,
  OUTCOME_EXHAUSTED,
  OUTCOME_RELEASE,
  OUTCOME_RETRY,
  OUTCOME_SNOOZE,
  OUTCOME_COOLDOWN,
  OUTCOME_EXCUSED, /* failed in an outage: as RETRY, but no attempt is spent */
  ALREADY_SETTLED,
  OUTCOME_COUNT
};

/* Does the item wait in its queue again, or is it over? */
bool outcome_requeues(enum outcome o);
bool outcome_ends(enum outcome o);

/* Is the mark a failure to be added to the item's failures? */
bool outcome_adds_failure(enum outcome o, const mark *m);

/* The result of the handler of an item that is done; or empty. */
static inline respool_bytes outcome_result(const mark *m) {
  return m->text ? m->text->result : (respool_bytes){NULL, 0};
}

/* Adds the failure of a mark to packed failures; memory is the arena's. 0 or
   NOMEM. */
int outcome_add_failure(arena *a, respool_bytes old, int64_t at,
                        const outcome_text *w, respool_bytes *out);
extern const outcome_text outcome_lapse; /* of a lease that ran out */

/* How long an item waits that is requeued; changes its counts accordingly.
   `delay` is that before its last try, `chance` in [0, 1). */
int64_t outcome_wait(enum outcome o, const mark *m, const queue_config *c,
                     double chance, uint64_t *attempts, int64_t *delay);

/* The outcomes of the items of one claim of a batch. */
typedef struct claim_outcomes {
  const respool_batch *batch;
  const mark *marks; /* of the batch's items; NULL: `all` for each */
  const mark *all;
  size_t from, to;
  enum excuse excuse; /* of failures that are outages; see policy/flow.h */
  const uint8_t *excuses; /* of each item of the batch, instead; or NULL */
  uint8_t *of;       /* of each item from `from` on; room for them */
  uint64_t n[OUTCOME_COUNT];
} claim_outcomes;

/* Finds and counts them; the claim's items have failed `attempts` times
   before. */
void outcomes_find(claim_outcomes *x, const queue_config *c,
                   uint64_t attempts);

/* Asked for each item of a batch, hence inline. */
static inline const mark *outcomes_mark(const claim_outcomes *x, size_t i) {
  return x->marks ? &x->marks[i] : x->all;
}

static inline enum outcome outcomes_at(const claim_outcomes *x, size_t i) {
  return (enum outcome)x->of[i - x->from];
}

static inline bool outcomes_is_settled(const claim_outcomes *x, size_t i) {
  return batch_is_over(x->batch, i);
}

/* How many items are over. */
uint64_t outcomes_ended(const claim_outcomes *x);

/* The outcome whose items keep the claim, which needs the same mark for all
   of them: those still leased, else those released, else those that wait
   alike, if `worth` says that so few are worth keeping it. COUNT: none. */
enum outcome outcomes_choose_kept(const claim_outcomes *x,
                                  bool (*worth)(void *arg, uint64_t n),
                                  void *arg);

#endif

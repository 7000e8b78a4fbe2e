/* SPDX-License-Identifier: MIT */
/*
 * What leaves a transaction: items and dead letters copied into an arena of
 * their own, and the batch, which is a page of items with the claims it holds
 * and the outcome marked for each item.
 */
#ifndef PAGE_H
#define PAGE_H

#include "base/arena.h"
#include "base/histogram.h"
#include "record/failures.h"
#include "record/segment.h"

struct respool_page {
  arena memory;
  respool_item *items;
  respool_bytes *packed; /* each item's stored form, beside it */
  size_t n, cap;
  uint64_t *damaged; /* ids passed over */
  size_t n_damaged, cap_damaged;
};

void page_init(respool_page *p);
void page_clear(respool_page *p); /* frees what it holds */

/* Makes room for `n` more items; false when out of memory. */
bool page_reserve(respool_page *p, size_t n);

/* One more item, to be filled, with its stored form; NULL when out of
   memory. */
respool_item *page_add(respool_page *p, respool_bytes packed);

/* Fills what an item says of itself. */
void page_fill(respool_item *out, uint64_t id, int priority, const item *i,
               const segment *g);

/* Notes an item that was passed over; false when out of memory. */
bool page_note_damaged(respool_page *p, uint64_t id);

struct respool_dead_letters {
  arena memory;
  respool_dead_letter *dead_letters;
  size_t n, cap;
};

respool_dead_letter *dead_letters_add(respool_dead_letters *l);
void dead_letters_clear(respool_dead_letters *l);

/* One claim in a batch: items [from, to) of its page. */
typedef struct batch_claim {
  uint32_t queue;
  int space, priority;
  uint64_t first; /* with the others the claim's key */
  size_t from, to;
  uint64_t attempts, crashes, deliveries;
  int64_t delay; /* before this try */
  respool_bytes failures, memo;
  bool lost; /* found so by the operation that ran last */
  bool over; /* nothing of it is held any more */
} batch_claim;

/* What was said of one item. */
typedef struct mark {
  int kind;
  bool settled;
  int64_t delay;
  const struct why *why; /* NULL: nothing more was said */
} mark;

/* The words of an outcome, kept in the batch's arena and shared by all items
   that were marked together. */
typedef struct why {
  respool_bytes error, trace, group, memo;
  const char *reason, *dlq;
} why;

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
  struct keep *keep; /* set while the lease is renewed */
  struct respool_ticket *ticket; /* at work on it */
  bool doomed;       /* freed meanwhile: the ticket's to free */
};

batch_claim *batch_add_claim(respool_batch *batch);
void batch_clear(respool_batch *batch); /* empty, ready to be filled again */

#endif

/* SPDX-License-Identifier: MIT */
/*
 * What leaves a transaction: items and letters copied into an arena of
 * their own, and the lot, which is a page of items with the claims it holds
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
void page_fill(respool_item *out, uint64_t id, int lane, const item *i,
               const segment *g);

/* Notes an item that was passed over; false when out of memory. */
bool page_note_damaged(respool_page *p, uint64_t id);

struct respool_letters {
  arena memory;
  respool_letter *letters;
  size_t n, cap;
};

respool_letter *letters_add(respool_letters *l);
void letters_clear(respool_letters *l);

/* One claim in a lot: items [from, to) of its page. */
typedef struct hold {
  uint32_t queue;
  int space, lane;
  uint64_t first; /* with the others the claim's key */
  size_t from, to;
  uint64_t attempts, crashes, deliveries;
  int64_t delay; /* before this try */
  respool_bytes history, memo;
  bool lost; /* found so by the operation that ran last */
  bool over; /* nothing of it is held any more */
} hold;

/* What was said of one item. */
typedef struct mark {
  int verdict;
  bool settled;
  int64_t delay;
  const struct why *why; /* NULL: nothing more was said */
} mark;

/* The words of an outcome, kept in the lot's arena and shared by all items
   that were marked together. */
typedef struct why {
  respool_bytes error, trace, group, memo;
  const char *reason, *box;
} why;

/* A letter made by a take. */
typedef struct obituary {
  uint64_t number;
  char box[RESPOOL_NAME_MAX + 1];
} obituary;

struct respool_lot {
  respool_page page;
  mark *marks;
  hold *holds;
  size_t n_holds, cap_holds;
  obituary *died; /* letters of the take that filled it */
  size_t n_died, cap_died;
  uint64_t token;
  int64_t lease, max_hold;
  size_t lost;
  respool_histogram observed; /* since the last settle */
  respool_queue *queue;
  struct keep *keep; /* set while the lease is renewed */
  struct respool_ticket *ticket; /* at work on it */
  bool doomed;       /* freed meanwhile: the ticket's to free */
};

hold *lot_add_hold(respool_lot *lot);
int lot_add_death(respool_lot *lot, const char *box, uint64_t number);
void lot_clear(respool_lot *lot); /* empty, ready to be filled again */

#endif

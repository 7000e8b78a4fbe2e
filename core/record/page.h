/* SPDX-License-Identifier: MIT */
/*
 * Items and dead letters, copied out of a transaction into an arena.
 */
#ifndef PAGE_H
#define PAGE_H

#include "base/arena.h"
#include "record/failures.h"
#include "record/segment.h"

#define PAGE_BYTES (4 * 1024 * 1024) /* of payloads in a page, about */

struct respool_page {
  arena memory;
  respool_item *items;
  respool_bytes *packed; /* the stored form of each item */
  size_t n, cap;
  uint64_t *damaged; /* ids that were skipped */
  size_t n_damaged, cap_damaged;
};

void page_init(respool_page *p);
void page_clear(respool_page *p); /* frees what it holds */

/* Empty again, with the memory that it has; and how much that is. */
void page_reset(respool_page *p);
size_t page_memory(const respool_page *p);

/* Makes room for `n` more items; false when out of memory. */
bool page_reserve(respool_page *p, size_t n);

/* Adds an item, to be filled in, with its stored form; NULL when out of memory.
   */
respool_item *page_add(respool_page *p, respool_bytes packed);

/* A copy in the page's memory; NULL when out of memory. */
respool_item_about *page_about(respool_page *p, const respool_item_about *a);

/* Fills in all fields; those that do not lie in the packed item as in `like`,
   in the page's memory, which items that are a body alone share. False when
   out of memory. */
bool page_fill(respool_page *p, respool_item *out, uint64_t id,
               const respool_item_about *like, const item *i);

/* An item of a page, to be packed again. */
item page_item(const respool_item *i);

/* Notes a damaged item that was skipped; false when out of memory. */
bool page_note_damaged(respool_page *p, uint64_t id);

struct respool_dead_letters {
  arena memory;
  respool_dead_letter *dead_letters;
  size_t n, cap;
};

/* Makes room for `n` more dead letters; false when out of memory. */
bool dead_letters_reserve(respool_dead_letters *l, size_t n);

/* Adds a dead letter, to be filled in; NULL when out of memory. */
respool_dead_letter *dead_letters_add(respool_dead_letters *l);
int dead_letter_gone(const char *dlq, uint64_t number); /* NOT_FOUND */
void dead_letters_clear(respool_dead_letters *l);

#endif

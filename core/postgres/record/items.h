/* SPDX-License-Identifier: MIT */
/*
 * The items of a run that was taken or looked at, into a page.
 */
#ifndef POSTGRES_ITEMS_H
#define POSTGRES_ITEMS_H

#include "postgres/record/taken.h"
#include "record/page.h"

/* An item whose bytes are damaged: what there is of them. */
typedef struct damaged_item {
  uint64_t id;
  respool_bytes bytes;
} damaged_item;

typedef struct damage {
  damaged_item *of;
  size_t n, cap;
} damage;

/* Adds the live items of `t` to a page, from `from` of its n on, `limit` at
   most; those that are damaged to `bad`, which borrows from the page. `about`
   is what they share. `*next` (may be NULL) is the first of n that was not
   looked at. False: out of memory. */
bool items_read(respool_page *p, const taken *t, uint32_t from, size_t limit,
                const respool_item_about *about, damage *bad, uint32_t *next);

/* What the items of a run share; `failures`, packed, are in the page's
   memory. */
respool_item_about taken_about(const taken *t, respool_bytes failures);

/* The failures of a run, and one for each lease that ran out since, in the
   arena. 0 or NOMEM. */
int taken_failures(arena *a, const PGresult *r, const taken *t,
                   respool_bytes *out);

/* Makes all that a run borrows from a result the arena's. 0 or NOMEM. */
int taken_own(arena *a, taken *t);

#endif

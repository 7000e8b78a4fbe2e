/* SPDX-License-Identifier: MIT */
/*
 * Items that are alive: the first of a queue, one of them, all from a cursor
 * on; and their leases.
 */
#ifndef QUERIES_ITEMS_H
#define QUERIES_ITEMS_H

#include "postgres/queries/looking.h"
#include "postgres/record/taken.h"

/* Adds the items of a run, a row of the answer, to the page: `limit` at most,
   from `from` of its n on; `*next` as items_read. `now` is INT64_MAX for items
   of the history. */
int look_add_run(looking *k, taken *t, uint32_t from, size_t limit,
                 int64_t now, uint32_t *next);

int look_peek(looking *k);
int look_get(looking *k);
int look_browse(looking *k);
int look_leases(looking *k);
int look_held(looking *k);

#endif

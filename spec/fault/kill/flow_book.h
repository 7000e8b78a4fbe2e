/* SPDX-License-Identifier: MIT */
/*
 * What the processes of flow.c were told of each item, or were about to do
 * with it, and the queue held against that.
 */
#ifndef FLOW_BOOK_H
#define FLOW_BOOK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "respool.h"

enum { IDS = 1 << 17, TEXT = 64 };

typedef struct book {
  _Atomic uint8_t pushed[IDS], ending[IDS], done[IDS], cancelling[IDS],
      cancelled[IDS];
  _Atomic uint32_t tag[IDS];
  /* The last report of its progress that was begun, and that was told, by
     report_number. */
  _Atomic uint64_t reporting[IDS], reported[IDS];
  _Atomic int64_t began; /* ms since 1970 */
  _Atomic bool full;     /* another store must begin */
  _Atomic uint64_t ends, ended; /* settles and cancels: the last that was
                                   begun, the highest that was told */
  _Atomic long takes, dones, cancels, openings, reports, refused, shown,
      awaited;
} book;

extern book *s;

/* A new store, of which nothing is known. */
void book_begin(void);

/* A number that rises. */
void raise_to(_Atomic uint64_t *n, uint64_t to);

/* The tag of an item's payload. */
uint32_t tag_of(const respool_item *i);

/* What a handler returns of an item: other bytes, that tell the same tag. */
respool_bytes result_of(uint8_t bytes[TEXT], uint32_t tag);

/* The k-th report of an item under a lease, of which it tells by itself. */
respool_progress progress_of(char text[TEXT], uint64_t id, uint64_t token,
                             unsigned k);

/* Of the reports of an item, one that is made later has a higher one. */
uint64_t report_number(uint64_t token, unsigned k);

/* The progress of an item that is looked at: the last one that was told under
   its lease, and none of another. Only while nobody reports under it. */
void see_progress(const respool_item *it);

/* Is there a result, which must then be this item's? One that was done has
   one, and one that was cancelled has none. */
bool see_result(respool_queue *q, uint64_t id);

/* Everything, while nobody works on it. */
void see_all(respool_queue *q);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Items that end: they become dead letters, or are dropped, and leave their
 * segments.
 */
#ifndef END_ITEMS_H
#define END_ITEMS_H

#include "lmdb/dead/dead_letters.h"
#include "lmdb/record/item_reader.h"

/* Writes dead letters for items [from, end) of a page and takes the items out
   of their segments. */
void dead_letter_page(txn *t, queue *q, const line *l, const respool_page *p,
                      size_t from, const death *d);

/* Takes the items of a page out of their segments, with their blobs, and
   frees their keys. */
void drop_page(txn *t, queue *q, const line *l, const respool_page *p,
               int64_t now);

/* Ends the items of a page, which have expired, by the queue's policy; `from`
   is their claim, if any. */
void expire_page(txn *t, queue *q, const line *l, const respool_page *p,
                 const claim *from, int64_t now);

/* Ends the items that stopped a reader, expired or damaged. Returns their
   number; the caller counts them out of their priority. */
size_t end_unreadable(txn *t, queue *q, item_reader *c, int what,
                      const claim *from);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Items that outlive their TTL.
 */
#ifndef EXPIRY_H
#define EXPIRY_H

#include "lmdb/record/records.h"

/* When the next items of the queue expire, by its own time; false: none
   will. */
bool first_expiry(txn *t, const queue *q, int64_t *at);

/* Ends items that have expired and are not leased, in up to `limit`
   segments; true when there may be more. Leased items are looked at again
   when their lease ends. */
bool expiry_sweep(txn *t, queue *q, int64_t now, int limit);

/* Ends one unsettled item if it has expired and is not leased; true when it
   did. */
bool item_expire(txn *t, queue *q, uint64_t id, int64_t now);

/* Deletes the expiry times of an empty queue that is dropped. */
void expiry_forget(txn *t, const queue *q);

#endif

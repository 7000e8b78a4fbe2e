/* SPDX-License-Identifier: MIT */
/*
 * Finding an item by its id.
 */
#ifndef FIND_H
#define FIND_H

#include "lmdb/record/records.h"

/* The line that an unsettled item lies in. */
bool find_item(txn *t, const queue *q, uint64_t id, line *l);
int item_not_found(txn *t, const queue *q, uint64_t id); /* says NOT_FOUND */

#endif

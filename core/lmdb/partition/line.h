/* SPDX-License-Identifier: MIT */
/*
 * The items of one priority of a partition, by their ids.
 */
#ifndef PARTITION_LINE_H
#define PARTITION_LINE_H

#include "lmdb/record/partition_record.h"

/* Takes the line's first id out, if it is `upto` at most. */
bool line_take(txn *t, queue *q, partition *p, partition_line *l,
               uint64_t upto, uint64_t *id, bool *solo);

/* Puts an id among the others. */
void line_insert(txn *t, queue *q, partition *p, partition_line *l,
                 uint64_t id, bool solo);

/* Puts `n` ids behind all others, of items as they were pushed. */
void line_append(txn *t, queue *q, partition *p, partition_line *l,
                 uint64_t first, uint64_t n);

/* Removes an id, wherever it is. */
void line_remove(txn *t, queue *q, partition *p, partition_line *l,
                 uint64_t id);

/* An item of the line waits, or no longer. */
void line_put_waiting(txn *t, const queue *q, const partition *p,
                      partition_line *l, uint64_t id);
void line_del_waiting(txn *t, const queue *q, const partition *p,
                      partition_line *l, uint64_t id);

/* The first id of the line that waits, of all and from `from` on; UINT64_MAX:
   none. */
uint64_t line_first_waiting(txn *t, const queue *q, const partition *p,
                            const partition_line *l);
uint64_t line_next_waiting(txn *t, const queue *q, const partition *p,
                           const partition_line *l, uint64_t from);

#endif

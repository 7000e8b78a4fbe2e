/* SPDX-License-Identifier: MIT */
/*
 * What has changed lately in the tables that share a tree. The newest claim,
 * its due time and its queue lie far apart in TREE_STATE, so that a commit that
 * changes a few records there would copy a path of pages for each. It writes
 * them to TREE_RECENT instead, which is small, so that they share a page; a
 * record that is made and deleted there never reaches TREE_STATE. Invariants:
 *
 *   a record of TREE_RECENT is in the place of that in TREE_STATE with its key;
 *   one that is GONE there stands for none;
 *   TREE_RECENT grows by a bounded number of records in a commit, and a commit
 *   that finds more of them than a page holds moves them to TREE_STATE, unless
 *   the file has no room: then it does not grow.
 *
 * A transaction with many changes writes the others to TREE_STATE at once, and
 * any writes large values there: these would be copied once more, and what is
 * deleted would keep its pages until then. Reads go through txn_get and the
 * cursors, which lay one tree over the other.
 */
#ifndef RECENT_H
#define RECENT_H

#include "lmdb/env/txn/txn.h"

/* CBOR's `undefined`: no table has such a record. */
#define RECENT_GONE ((respool_bytes){"\xf7", 1})

static inline bool recent_is_gone(respool_bytes value) {
  return value.size == 1 && *(const uint8_t *)value.data == 0xf7;
}

/* Is there any record? */
bool recent_any(txn *t);

/* The tree that a record with a value of that size is to be put in; nothing
   lies over it there. */
int recent_home(txn *t, respool_bytes key, size_t size);

/* Deletes a record, if there. */
void recent_del(txn *t, respool_bytes key);

/* Before a commit: moves them to TREE_STATE if a page does not hold them. Does
   nothing in a transaction that has failed or changed nothing. */
void recent_fold(txn *t);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The space that LMDB's file takes, and what its disk has for it. Whoever adds
 * items asks for room first, so that a full disk does not stop what makes room.
 */
#ifndef SPACE_H
#define SPACE_H

#include "lmdb/env/txn/txn.h"

uint64_t space_high_water(const lmdb_env *e); /* bytes of the file ever used */
uint64_t space_used(txn *t); /* without those on the free list */
void space_stat(txn *t, respool_store_stats *out);

/* Allocates `more` bytes on the disk, beyond those that this transaction asked
   for before, and `reserve` bytes for settling and dead-lettering. False when
   the disk is full; true as well where that cannot be known. */
bool space_claim(txn *t, uint64_t more, uint64_t reserve);

/* The same outside of a transaction: `more` bytes beyond the file's. */
bool space_claim_file(lmdb_env *e, uint64_t more);

/* Would space_claim find room for `more` bytes, the reserve among them?
   Changes nothing; true as well where that cannot be known. */
bool space_has(txn *t, uint64_t more);

/* Can the file grow by `more` bytes beyond those claimed? Within it, values of
   several pages may find none side by side. */
bool space_may_grow(txn *t, uint64_t more);

#endif

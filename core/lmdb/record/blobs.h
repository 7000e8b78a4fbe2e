/* SPDX-License-Identifier: MIT */
/*
 * Blobs: packed items too large for a segment.
 */
#ifndef BLOBS_H
#define BLOBS_H

#include "lmdb/record/records.h"

void blob_put(txn *t, uint64_t number, respool_bytes data);
bool blob_get(txn *t, blob_ref r, void *into); /* false: damaged, missing */
void blob_del(txn *t, uint64_t number);

/* Copies what is there of a damaged one, at most `r.size` bytes, and returns
   how many. */
size_t blob_read_damaged(txn *t, blob_ref r, void *into);

/* The reference in a packed item; number 0 when there is none. */
blob_ref blob_of(respool_bytes packed);

#endif

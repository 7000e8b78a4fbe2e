/* SPDX-License-Identifier: MIT */
/*
 * Take: claims, their leases, and when there is something to take.
 */
#ifndef LMDB_TAKE_H
#define LMDB_TAKE_H

#include "lmdb/record/records.h"
#include "lmdb/steps/live.h"

/* With what is live in the journal; NULL: that was applied. */
int lmdb_outlook(txn *t, const char *name, int64_t wall, const live *l,
                 outlook *out);
int lmdb_claim(txn *t, const char *name, int64_t wall, claim_req *r,
               respool_batch *batch);
int lmdb_extend(txn *t, const char *name, int64_t wall, int64_t lease,
                uint64_t token, batch_claim *claims, size_t n);

#endif

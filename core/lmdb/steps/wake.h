/* SPDX-License-Identifier: MIT */
/*
 * The passing of time for partitions.
 */
#ifndef WAKE_H
#define WAKE_H

#include "lmdb/steps/deliver.h"

/* Partitions that were to be looked at again by now get their turns; true when
   more are due. */
bool wake_partitions(txn *t, queue *q, int64_t now);

/* When the first is to be looked at again; INT64_MAX: none by time. */
int64_t wake_due(txn *t, const queue *q);

/* The items of a claim that is due, in a line of partitions, come to theirs;
   false when it cannot be loaded. */
bool wake_claim(take_run *run, const due_key *d);

#endif

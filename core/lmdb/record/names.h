/* SPDX-License-Identifier: MIT */
/*
 * The names of queues, DLQs, named replays and notes.
 */
#ifndef LMDB_NAMES_H
#define LMDB_NAMES_H

#include "lmdb/env/txn/txn.h"

enum { NAMES_QUEUES, NAMES_DLQS, NAMES_REPLAYS, NAMES_NOTES };

int lmdb_names(txn *t, int which, packer *out); /* an array of texts */

#endif

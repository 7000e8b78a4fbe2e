/* SPDX-License-Identifier: MIT */
/*
 * The names of queues, DLQs and named replays.
 */
#ifndef LMDB_NAMES_H
#define LMDB_NAMES_H

#include "lmdb/env/txn.h"

int lmdb_names(txn *t, int which, packer *out); /* an array of texts */

#endif

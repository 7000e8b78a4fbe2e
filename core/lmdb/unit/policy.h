/* SPDX-License-Identifier: MIT */
/*
 * Queues as a whole: their policy, counts, dropping.
 */
#ifndef POLICY_H
#define POLICY_H

#include "lmdb/env/txn/txn.h"

int lmdb_queue_open(txn *t, const char *name, int64_t wall,
                    const respool_queue_options *o);
int lmdb_queue_agrees(txn *t, const char *name,
                      const respool_queue_options *o, bool *agrees);
int lmdb_queue_config(txn *t, const char *name, queue_config *out);
int lmdb_queue_stat(txn *t, const char *name, int64_t wall,
                    respool_queue_stats *out);
int lmdb_queue_pause(txn *t, const char *name, bool paused);
int lmdb_queue_drop(txn *t, const char *name, int64_t wall, purge_req *r);

#endif

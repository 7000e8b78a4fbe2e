/* SPDX-License-Identifier: MIT */
/*
 * The policy of a queue as it is stored.
 */
#ifndef RECORD_POLICY_H
#define RECORD_POLICY_H

#include "base/cbor.h"

typedef struct queue_config {
  int64_t lease, max_lease, max_attempts, max_crashes, ttl, cooldown;
  int64_t on_exhausted, on_expire, ordered, max_items, max_bytes;
  int64_t overflow, keep_done, keep_done_bytes, keep_dead;
  respool_weights weights;
  respool_backoff backoff;
  char dlq[RESPOOL_NAME_MAX + 1];
} queue_config;

/* That of a new queue. */
void config_default(queue_config *c, const char *name);

/* Takes over the options that are given. */
void config_apply(queue_config *c, const respool_queue_options *o);

/* As one CBOR array. */
void config_pack(packer *p, const queue_config *c);
void config_unpack(unpacker *u, queue_config *c);

/* Are two policies equal, as stored? */
bool config_equal(const queue_config *a, const queue_config *b);

#endif

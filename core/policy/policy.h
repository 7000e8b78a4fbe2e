/* SPDX-License-Identifier: MIT */
/*
 * The policy of a queue as it is stored.
 */
#ifndef POLICY_POLICY_H
#define POLICY_POLICY_H

#include "cbor/packer.h"
#include "cbor/unpacker.h"

/* The bounds of rates and breakers; they keep a bucket within 63 bits. */
#define RATE_ITEMS_MAX 1000000000
#define RATE_PER_MAX ((int64_t)30 * 86400000)
#define BREAKER_FAILURES_MAX 100
#define BREAKER_PROBES_MAX 1000

typedef struct queue_config {
  int64_t lease, max_lease, max_attempts, max_crashes, ttl, cooldown;
  int64_t on_exhausted, on_expire, ordered, max_items, max_bytes;
  int64_t overflow, keep_done, keep_done_bytes, keep_dead;
  int64_t rate_items, rate_per, rate_burst; /* see policy/flow.h */
  int64_t breaker_failures, breaker_within, breaker_cooldown, breaker_probes;
  int64_t keep_dead_items, keep_dead_bytes;
  int64_t partition_concurrency, partition_ordered, partition_batch;
  int64_t partition_rate_items, partition_rate_per, partition_rate_burst;
  int64_t partition_breaker_failures, partition_breaker_within;
  int64_t partition_breaker_cooldown, partition_breaker_probes;
  respool_weights weights;
  respool_backoff backoff;
  char dlq[RESPOOL_NAME_MAX + 1];
} queue_config;

/* Does it bound what is taken by a rate or a breaker? */
static inline bool config_has_flow(const queue_config *c) {
  return c->rate_items > 0 || c->breaker_failures > 0;
}

/* That of a new queue. */
void config_default(queue_config *c, const char *name);

/* Takes over the options that are given. */
void config_apply(queue_config *c, const respool_queue_options *o);

/* As one CBOR array. */
void config_pack(packer *p, const queue_config *c);
void config_unpack(unpacker *u, queue_config *c);

/* The same policy with the rate and the breaker of its partitions. */
void config_of_partition(queue_config *to, const queue_config *c);

/* Does it bound partitions at all? */
static inline bool config_bounds_partitions(const queue_config *c) {
  return c->partition_concurrency > 0 || c->partition_ordered ||
         c->partition_batch > 0 || c->partition_rate_items > 0 ||
         c->partition_breaker_failures > 0;
}

/* Does it bound what is taken of a partition by a rate? */
static inline bool config_has_partition_flow(const queue_config *c) {
  return c->partition_rate_items > 0;
}

/* Does an outage concern a breaker of the queue, or of each partition? */
static inline bool config_has_breaker(const queue_config *c) {
  return c->breaker_failures > 0 || c->partition_breaker_failures > 0;
}

/* The fields at its end alone, of rate, breaker and partitions. */
void config_pack_flow(packer *p, const queue_config *c);

/* Are two policies equal, as stored? */
bool config_equal(const queue_config *a, const queue_config *b);

#endif

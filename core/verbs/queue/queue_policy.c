/* SPDX-License-Identifier: MIT */
/*
 * The policy of a queue; see queue_policy.h.
 */
#include "verbs/queue/queue_policy.h"

static bool in(int64_t v, int64_t low, int64_t high) {
  return v == RESPOOL_KEEP || (v >= low && v <= high);
}

static int weights_check(const respool_weights *w) {
  if (w->n > RESPOOL_WEIGHTS_MAX) return invalid("weights", "16 at most");
  for (size_t i = 0; i < w->n; i++) {
    if (w->of[i].priority < 0 || w->of[i].priority >= RESPOOL_PRIORITIES)
      return invalid("weights", "of priorities 0 to 255");
    if (w->of[i].weight < 1 || w->of[i].weight > 1000)
      return invalid("weights", "1 to 1000");
    for (size_t k = 0; k < i; k++)
      if (w->of[k].priority == w->of[i].priority)
        return invalid("weights", "given once a priority");
  }
  return 0;
}

static int flow_check(const respool_queue_options *o) {
  if (!in(o->rate_items, 0, RATE_ITEMS_MAX))
    return invalid("rate_items", "0 to 1000000000");
  if (!in(o->rate_per, 1, RATE_PER_MAX))
    return invalid("rate_per", "1 ms to 30 days");
  if (!in(o->rate_burst, 0, RATE_ITEMS_MAX))
    return invalid("rate_burst", "0 to 1000000000");
  if (!in(o->breaker_failures, 0, BREAKER_FAILURES_MAX))
    return invalid("breaker_failures", "0 to 100");
  if (!in(o->breaker_within, 0, INT64_MAX))
    return invalid("breaker_within", "0 or more");
  if (!in(o->breaker_cooldown, 1, INT64_MAX))
    return invalid("breaker_cooldown", "1 ms at least");
  if (!in(o->breaker_probes, 1, BREAKER_PROBES_MAX))
    return invalid("breaker_probes", "1 to 1000");
  return 0;
}

static int partitions_check(const respool_queue_options *o) {
  if (!in(o->partition_concurrency, 0, RATE_ITEMS_MAX))
    return invalid("partition_concurrency", "0 to 1000000000");
  if (!in(o->partition_ordered, 0, 1))
    return invalid("partition_ordered", "0 or 1");
  if (!in(o->partition_batch, 0, RATE_ITEMS_MAX))
    return invalid("partition_batch", "0 to 1000000000");
  if (!in(o->partition_rate_items, 0, RATE_ITEMS_MAX))
    return invalid("partition_rate_items", "0 to 1000000000");
  if (!in(o->partition_rate_per, 1, RATE_PER_MAX))
    return invalid("partition_rate_per", "1 ms to 30 days");
  if (!in(o->partition_rate_burst, 0, RATE_ITEMS_MAX))
    return invalid("partition_rate_burst", "0 to 1000000000");
  if (!in(o->partition_breaker_failures, 0, BREAKER_FAILURES_MAX))
    return invalid("partition_breaker_failures", "0 to 100");
  if (!in(o->partition_breaker_within, 0, INT64_MAX))
    return invalid("partition_breaker_within", "0 ms or more");
  if (!in(o->partition_breaker_cooldown, 1, INT64_MAX))
    return invalid("partition_breaker_cooldown", "1 ms or more");
  if (!in(o->partition_breaker_probes, 1, BREAKER_PROBES_MAX))
    return invalid("partition_breaker_probes", "1 to 1000");
  return 0;
}

int queue_policy_check(const respool_queue_options *o) {
  int rc = SIZE_CHECK(o, RESPOOL_QUEUE_OPTIONS_INIT);
  if (rc) return rc;
  if (!in(o->lease, 1, LEASE_MAX))
    return invalid("lease", "1 ms to 7 days");
  if (!in(o->max_lease, 1, INT64_MAX)) return invalid("max_lease", "positive");
  if (!in(o->max_attempts, 1, INT64_MAX))
    return invalid("max_attempts", "at least 1");
  if (!in(o->max_crashes, 1, INT64_MAX))
    return invalid("max_crashes", "at least 1");
  if (!in(o->ttl, 0, INT64_MAX)) return invalid("ttl", "0 or more");
  if (!in(o->cooldown, 0, INT64_MAX)) return invalid("cooldown", "0 or more");
  if (!in(o->on_exhausted, 0, RESPOOL_LIMIT_COOLDOWN))
    return invalid("on_exhausted", "dead, drop or cooldown");
  if (!in(o->on_expire, 0, RESPOOL_LIMIT_DROP))
    return invalid("on_expire", "dead or drop");
  if (!in(o->ordered, 0, 1)) return invalid("ordered", "0 or 1");
  if (!in(o->max_items, 0, INT64_MAX))
    return invalid("max_items", "0 or more");
  if (!in(o->max_queue_bytes, 0, INT64_MAX))
    return invalid("max_queue_bytes", "0 or more");
  if (!in(o->overflow, 0, RESPOOL_OVERFLOW_WAIT))
    return invalid("overflow", "reject, drop_oldest, dead or wait");
  if (!in(o->keep_done, 0, INT64_MAX))
    return invalid("keep_done", "0 or more");
  if (!in(o->keep_done_bytes, 0, INT64_MAX))
    return invalid("keep_done_bytes", "0 or more");
  if (!in(o->keep_dead, 0, INT64_MAX))
    return invalid("keep_dead", "0 or more");
  if (!in(o->keep_dead_items, 1, INT64_MAX))
    return invalid("keep_dead_items", "1 or more");
  if (!in(o->keep_dead_bytes, 0, INT64_MAX))
    return invalid("keep_dead_bytes", "0 or more");
  rc = flow_check(o);
  if (!rc) rc = partitions_check(o);
  if (rc) return rc;
  rc = o->backoff ? respool_backoff_check(o->backoff) : 0;
  if (!rc && o->dlq) rc = name_check(o->dlq, "dlq");
  return !rc && o->weights ? weights_check(o->weights) : rc;
}

int queue_policy_find(respool *s, const char *name, queue_config *out) {
  query look = {.kind = QUERY_POLICY, .name = name, .policy = out};
  return store_look(s, &look);
}

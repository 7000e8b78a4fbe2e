/* SPDX-License-Identifier: MIT */
/*
 * Policies; see policy.h.
 */
#include "policy/policy.h"

#include "record/fields.h"

#include <string.h>

void config_default(queue_config *c, const char *name) {
  *c = (queue_config){
    .lease = 30000, .max_lease = 3600000, .max_attempts = 5,
    .max_crashes = 3, .ttl = RESPOOL_UNLIMITED,
    .max_items = RESPOOL_UNLIMITED, .max_bytes = RESPOOL_UNLIMITED,
    .keep_done_bytes = RESPOOL_UNLIMITED, .keep_dead = RESPOOL_UNLIMITED,
    .keep_dead_items = RESPOOL_UNLIMITED, .keep_dead_bytes = RESPOOL_UNLIMITED,
    .rate_per = 1000, .breaker_within = 60000, .breaker_cooldown = 60000,
    .breaker_probes = 1, .partition_rate_per = 1000,
    .partition_breaker_within = 60000, .partition_breaker_cooldown = 60000,
    .partition_breaker_probes = 1,
  };
  respool_backoff_default(&c->backoff);
  strcpy(c->dlq, name);
}

static void take_over(int64_t *to, int64_t from) {
  if (from != RESPOOL_KEEP) *to = from;
}

/* By priority, so that one policy is stored in one way. */
static void weights_apply(respool_weights *to, const respool_weights *from) {
  *to = (respool_weights){.n = 0};
  for (size_t i = 0; i < from->n; i++) {
    size_t k = to->n++;
    for (; k > 0 && to->of[k - 1].priority > from->of[i].priority; k--)
      to->of[k] = to->of[k - 1];
    to->of[k] = from->of[i];
  }
}

void config_apply(queue_config *c, const respool_queue_options *o) {
  take_over(&c->lease, o->lease);
  take_over(&c->max_lease, o->max_lease);
  take_over(&c->max_attempts, o->max_attempts);
  take_over(&c->max_crashes, o->max_crashes);
  take_over(&c->ttl, o->ttl);
  take_over(&c->cooldown, o->cooldown);
  take_over(&c->on_exhausted, o->on_exhausted);
  take_over(&c->on_expire, o->on_expire);
  take_over(&c->ordered, o->ordered);
  take_over(&c->max_items, o->max_items);
  take_over(&c->max_bytes, o->max_queue_bytes);
  take_over(&c->overflow, o->overflow);
  take_over(&c->keep_done, o->keep_done);
  take_over(&c->keep_done_bytes, o->keep_done_bytes);
  take_over(&c->keep_dead, o->keep_dead);
  take_over(&c->keep_dead_items, o->keep_dead_items);
  take_over(&c->keep_dead_bytes, o->keep_dead_bytes);
  take_over(&c->rate_items, o->rate_items);
  take_over(&c->rate_per, o->rate_per);
  take_over(&c->rate_burst, o->rate_burst);
  take_over(&c->breaker_failures, o->breaker_failures);
  take_over(&c->breaker_within, o->breaker_within);
  take_over(&c->breaker_cooldown, o->breaker_cooldown);
  take_over(&c->breaker_probes, o->breaker_probes);
  take_over(&c->partition_concurrency, o->partition_concurrency);
  take_over(&c->partition_ordered, o->partition_ordered);
  take_over(&c->partition_batch, o->partition_batch);
  take_over(&c->partition_rate_items, o->partition_rate_items);
  take_over(&c->partition_rate_per, o->partition_rate_per);
  take_over(&c->partition_rate_burst, o->partition_rate_burst);
  take_over(&c->partition_breaker_failures, o->partition_breaker_failures);
  take_over(&c->partition_breaker_within, o->partition_breaker_within);
  take_over(&c->partition_breaker_cooldown, o->partition_breaker_cooldown);
  take_over(&c->partition_breaker_probes, o->partition_breaker_probes);
  if (o->backoff) c->backoff = *o->backoff;
  if (o->weights) weights_apply(&c->weights, o->weights);
  if (o->dlq) strcpy(c->dlq, o->dlq);
}

void config_of_partition(queue_config *to, const queue_config *c) {
  *to = *c;
  to->rate_items = c->partition_rate_items;
  to->rate_per = c->partition_rate_per;
  to->rate_burst = c->partition_rate_burst;
  to->breaker_failures = c->partition_breaker_failures;
  to->breaker_within = c->partition_breaker_within;
  to->breaker_cooldown = c->partition_breaker_cooldown;
  to->breaker_probes = c->partition_breaker_probes;
}

/* ---- stored ------------------------------------------------------------- */

static void backoff_pack(packer *p, const respool_backoff *b) {
  pack_array(p, 8);
  pack_int(p, b->kind);
  pack_int(p, b->jitter);
  pack_double(p, b->ratio);
  pack_int(p, b->initial);
  pack_int(p, b->step);
  pack_double(p, b->factor);
  pack_int(p, b->max);
  pack_array(p, b->count);
  for (size_t i = 0; i < b->count; i++) pack_int(p, b->list[i]);
}

static void backoff_unpack(unpacker *u, respool_backoff *b) {
  memset(b, 0, sizeof *b);
  unpack_expect(u, unpack_array(u) == 8);
  b->kind = (int)unpack_int(u);
  b->jitter = (int)unpack_int(u);
  b->ratio = unpack_double(u);
  b->initial = unpack_int(u);
  b->step = unpack_int(u);
  b->factor = unpack_double(u);
  b->max = unpack_int(u);
  size_t n = unpack_array(u);
  unpack_expect(u, n <= RESPOOL_LIST_MAX);
  b->count = u->rc ? 0 : n;
  for (size_t i = 0; i < b->count; i++) b->list[i] = unpack_int(u);
}

static void weights_pack(packer *p, const respool_weights *w) {
  pack_map(p, w->n);
  for (size_t i = 0; i < w->n; i++) {
    pack_int(p, w->of[i].priority);
    pack_uint(p, w->of[i].weight);
  }
}

static void weights_unpack(unpacker *u, respool_weights *w) {
  memset(w, 0, sizeof *w);
  size_t n = unpack_map(u);
  unpack_expect(u, n <= RESPOOL_WEIGHTS_MAX);
  w->n = u->rc ? 0 : n;
  for (size_t i = 0; i < w->n; i++) {
    w->of[i].priority = unpack_priority(u);
    w->of[i].weight = (unsigned)unpack_uint(u);
  }
}

/* The numbers of a policy in their stored order. */
#define CONFIG_NUMBERS(X) \
  X(lease) X(max_lease) X(max_attempts) X(max_crashes) X(ttl) X(cooldown) \
  X(on_exhausted) X(on_expire) X(ordered) X(max_items) X(max_bytes) \
  X(overflow) X(keep_done) X(keep_done_bytes) X(keep_dead)

/* Those of its flow, behind the others. */
#define FLOW_NUMBERS(X) \
  X(rate_items) X(rate_per) X(rate_burst) X(breaker_failures) \
  X(breaker_within) X(breaker_cooldown) X(breaker_probes)

/* Those of its partitions, behind the bounds of dead letters. */
#define PARTITION_NUMBERS(X) \
  X(partition_concurrency) X(partition_ordered) X(partition_batch) \
  X(partition_rate_items) X(partition_rate_per) X(partition_rate_burst) \
  X(partition_breaker_failures) X(partition_breaker_within) \
  X(partition_breaker_cooldown) X(partition_breaker_probes)

void config_pack_flow(packer *p, const queue_config *c) {
#define PACK(f) pack_int(p, c->f);
  FLOW_NUMBERS(PACK)
#undef PACK
}

void config_pack(packer *p, const queue_config *c) {
  pack_array(p, 37);
#define PACK(f) pack_int(p, c->f);
  CONFIG_NUMBERS(PACK)
  backoff_pack(p, &c->backoff);
  pack_phrase(p, phrase_of(c->dlq));
  weights_pack(p, &c->weights);
  config_pack_flow(p, c);
  pack_int(p, c->keep_dead_items);
  pack_int(p, c->keep_dead_bytes);
  PARTITION_NUMBERS(PACK)
#undef PACK
}

bool config_equal(const queue_config *a, const queue_config *b) {
  packer p, q;
  packer_init(&p);
  packer_init(&q);
  config_pack(&p, a);
  config_pack(&q, b);
  bool equal = !p.rc && !q.rc && p.len == q.len &&
               !memcmp(p.data, q.data, p.len);
  packer_free(&p);
  packer_free(&q);
  return equal;
}

/* A divisor, and what a bucket holds, fit 63 bits. */
static void expect_rate(unpacker *u, int64_t items, int64_t per,
                        int64_t burst) {
  unpack_expect(u, per > 0 && per <= RATE_PER_MAX && items >= 0 &&
                   items <= RATE_ITEMS_MAX && burst >= 0 &&
                   burst <= RATE_ITEMS_MAX);
}

static void unpack_partitions(unpacker *u, queue_config *c, bool there) {
  queue_config none;
  config_default(&none, "");
#define UNPACK(f) c->f = there ? unpack_int(u) : none.f;
  PARTITION_NUMBERS(UNPACK)
#undef UNPACK
}

/* Those without the bounds of dead letters, and without those of partitions,
   are older. */
void config_unpack(unpacker *u, queue_config *c) {
  size_t n = unpack_array(u);
  unpack_expect(u, n == 25 || n == 27 || n == 37);
#define UNPACK(f) c->f = unpack_int(u);
  CONFIG_NUMBERS(UNPACK)
  backoff_unpack(u, &c->backoff);
  unpack_name(u, c->dlq);
  weights_unpack(u, &c->weights);
  FLOW_NUMBERS(UNPACK)
#undef UNPACK
  c->keep_dead_items = n > 25 ? unpack_int(u) : RESPOOL_UNLIMITED;
  c->keep_dead_bytes = n > 25 ? unpack_int(u) : RESPOOL_UNLIMITED;
  unpack_partitions(u, c, n == 37);
  expect_rate(u, c->rate_items, c->rate_per, c->rate_burst);
  expect_rate(u, c->partition_rate_items, c->partition_rate_per,
              c->partition_rate_burst);
  unpack_expect(u, c->partition_concurrency >= 0 && c->partition_batch >= 0);
}

/* SPDX-License-Identifier: MIT */
/*
 * Policies; see policy.h.
 */
#include "record/policy.h"

#include <string.h>

void config_default(queue_config *c, const char *name) {
  *c = (queue_config){
    .lease = 30000, .max_lease = 3600000, .max_attempts = 5,
    .max_crashes = 3, .ttl = RESPOOL_UNLIMITED,
    .max_items = RESPOOL_UNLIMITED, .max_bytes = RESPOOL_UNLIMITED,
    .keep_done_bytes = RESPOOL_UNLIMITED, .keep_dead = RESPOOL_UNLIMITED,
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
  if (o->backoff) c->backoff = *o->backoff;
  if (o->weights) weights_apply(&c->weights, o->weights);
  if (o->dlq) strcpy(c->dlq, o->dlq);
}

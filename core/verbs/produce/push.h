/* SPDX-License-Identifier: MIT */
/*
 * Pushes, as other verbs make them.
 */
#ifndef PUSH_H
#define PUSH_H

#include "verbs/queue/queue.h"

/* Checks a push; `*sum` is the size of its payloads. */
int push_check(const respool *s, const respool_payload *items, size_t n,
               const respool_push_options *o, uint64_t *sum);

/* Builds what a push stores; the builder is the caller's, also on failure. */
int push_build(const respool *s, const respool_payload *items, size_t n,
               const respool_push_options *o, builder *b);

/* The step of a push; it borrows all that it is given. */
step push_step(respool_queue *q, const builder *b, respool_bytes key,
               const respool_push_options *o);

/* 0, or TOO_LARGE when the item is over max_queue_bytes by itself. Cheap for
   what is clearly below. */
int push_fits(respool_queue *q, const respool_payload *it,
              const respool_push_options *o);

#endif

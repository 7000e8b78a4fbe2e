/* SPDX-License-Identifier: MIT */
/*
 * The verbs as actors use them: each tells the model before it is called what
 * it will do to which tags, and after it that it has returned.
 */
#ifndef FAULT_VERBS_H
#define FAULT_VERBS_H

#include "actor.h"

enum { BATCH = 16, MOVED = 4 * BATCH, TRIES = 3, DAY = 24 * 3600 * 1000 };

/* Ends the program when a call fails that must not. */
#define MUST(a, call) act_must(a, call, #call)
void act_must(const actor *a, int rc, const char *call);

/* Rounds go on as long as the model has room for their tags. */
bool act_going(const actor *a, int round, int rounds);

/* A number below `n`. */
unsigned act_chance(actor *a, unsigned n);

/* The tags that a verb moves, from before it until it has returned. */
typedef struct moved {
  actor *a;
  uint16_t unit;
  int n;
  struct { uint32_t tag; uint8_t index; uint64_t id; } of[MOVED];
} moved;

moved moved_together(actor *a); /* all or none of them */
moved moved_apart(actor *a);
void moved_add(moved *v, uint32_t tag, int place, uint64_t attempts);
void moved_ack(const moved *v);

/* Items to be pushed; the bytes are the parcel's. */
typedef struct parcel {
  uint8_t bodies[BATCH][BODY_MAX];
  respool_payload items[BATCH];
} parcel;

/* New tags, to be pushed to a place. */
void moved_pack(moved *v, parcel *p, int n, int place);

/* Where an outcome takes an item that is in `place`. */
void moved_outcome(moved *v, const respool_item *it, int place, int kind);

void act_open(actor *a);
respool_queue *act_queue(actor *a, int place);
uint64_t act_push(actor *a, respool_queue *q, int place, int n,
                  int64_t delay);
respool_batch *act_take(actor *a, respool_queue *q, int n);
void act_mark(moved *v, respool_batch *batch, size_t i, int place, int kind);

/* Settles all of a batch as done and, when `n` is not 0, takes as many more in
   the same commit. Frees it. */
respool_batch *act_finish(actor *a, respool_batch *batch, int n);

/* Finishes all of a queue, in batches of `n`. */
void act_drain(actor *a, respool_queue *q, int n);

#endif

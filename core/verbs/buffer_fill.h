/* SPDX-License-Identifier: MIT */
/*
 * A load: what a buffer gathers for one flush. Items lie in batches, a batch
 * for each run of pushes with the same options. Those that may yet be folded
 * lie in slots, found by name, and so does all that comes behind the first of
 * them, for the order's sake; they join the batches when the load ends.
 */
#ifndef LOAD_H
#define LOAD_H

#include "record/segment.h"

/* Items that were pushed with the same options, in one batch. Where these
   have a delay or a ttl of their own, at nearly the same time. */
typedef struct part {
  struct part *next;
  respool_push_options options;
  int64_t begun, since; /* the time of the first and of the last push */
  respool_payload key; /* its key alone, copied; for a part of one */
  builder builder;
  uint64_t bytes;      /* of payloads */
} part;

/* An item by itself: under a name, that which was folded last. */
typedef struct slot {
  struct slot *next;  /* in order of the first push */
  struct slot *chain; /* of the same bucket */
  respool_bytes name; /* without bytes: it cannot be found */
  respool_payload item;
  respool_push_options options;
  int64_t since;
  uint64_t version;
} slot;

typedef struct load {
  part *parts, *last_part;
  slot *slots, *last_slot;
  slot **buckets;        /* of slots by name; n_buckets is a power of two */
  size_t n_buckets, n_slots; /* slots that have a name */
  uint64_t items, bytes, pushes;
  uint64_t memory;       /* what it takes of it, near enough */
  int64_t first_at;
} load;

void load_free(load *l); /* back to empty */

/* Whether the options of a push mean a time from it on. */
bool is_timed(const respool_push_options *o);

/* Adds an item; 0 or RESPOOL_NOMEM, as of all here that return int. `now` is
   the time if its options are timed. */
int load_add(load *l, const respool_payload *it,
             const respool_push_options *o, int64_t now);

/* The slot under `name`; NULL when there is none. */
slot *load_find(const load *l, respool_bytes name);

/* Gives the slot `*s` new content; NULL: adds one. */
int load_put(load *l, slot **s, respool_bytes name,
             const respool_payload *it, const respool_push_options *o,
             int64_t now);

/* Ends all batches. May be called again. */
int load_end(load *l);

/* The options of a part, with what is left of their times at `now`. */
respool_push_options part_options(const part *p, int64_t now);

/* Makes two parts of the first of an ended load; false when it is a single
   item, or memory is out. */
bool load_halve(load *l);

/* Forgets the first part, with what it counts. */
void load_shift(load *l);

/* A copy that is the caller's to free(). */
int copy_bytes(respool_bytes from, respool_bytes *to);

uint64_t payload_weight(const respool_payload *it);

#endif

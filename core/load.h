/* SPDX-License-Identifier: MIT */
/*
 * A load: what a buffer gathers for one flush. Items lie in batches, a batch
 * for each run of pushes with the same options; those that may yet be folded
 * lie in slots, found by name, and join the batches when the load ends.
 */
#ifndef LOAD_H
#define LOAD_H

#include "segment.h"

/* Items that were pushed with the same options, in one batch. */
typedef struct part {
  struct part *next;
  respool_push_options options;
  respool_payload key; /* its key alone, copied; for a part of one */
  batch batch;
  uint64_t bytes;      /* of payloads */
} part;

/* An item that may yet be folded: the last under its name. */
typedef struct slot {
  struct slot *next;  /* in order of the first push */
  struct slot *chain; /* of the same bucket */
  respool_bytes name, body, headers;
  respool_push_options options;
  uint64_t version;
} slot;

typedef struct load {
  part *parts, *last_part;
  slot *slots, *last_slot;
  slot **buckets;        /* of slots by name; n_buckets is a power of two */
  size_t n_buckets, n_slots;
  uint64_t items, bytes, pushes;
  int64_t first_at;
} load;

void load_free(load *l); /* back to empty */

/* Adds an item; 0 or RESPOOL_NOMEM, as of all here that return int. */
int load_add(load *l, const respool_payload *it,
             const respool_push_options *o);

/* The slot under `name`; NULL when there is none. */
slot *load_find(const load *l, respool_bytes name);

/* Adds a slot, or gives one new content and its new version. */
int load_put(load *l, slot *s, respool_bytes name,
             const respool_payload *it, const respool_push_options *o,
             uint64_t version);

/* Ends all batches. May be called again. */
int load_end(load *l);

/* Makes two parts of the first of an ended load; false when it is a single
   item, or memory is out. */
bool load_halve(load *l);

/* Forgets the first part, with what it counts. */
void load_shift(load *l);

/* A copy that is the caller's to free(). */
int copy_bytes(respool_bytes from, respool_bytes *to);

uint64_t payload_weight(const respool_payload *it);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * A fill: what a buffer gathers for one flush. Items lie in groups, one for
 * each run of pushes with the same options. Items that may still be merged lie
 * in slots, found by name. To keep the order, so do all items behind the first
 * of them; they join the groups when the fill ends.
 */
#ifndef BUFFER_FILL_H
#define BUFFER_FILL_H

#include "record/segment.h"

/* Items that were pushed with the same options and, where these have a delay
   or a ttl, at nearly the same time. */
typedef struct push_group {
  struct push_group *next;
  respool_push_options options;
  int64_t begun, since; /* the time of the first and of the last push */
  respool_bytes key;   /* copied; for a group of one */
  builder builder;
  uint64_t bytes;      /* of payloads */
} push_group;

/* An item by itself; with a name, the item that was merged last. */
typedef struct merge_slot {
  struct merge_slot *next;  /* in order of the first push */
  struct merge_slot *chain; /* of the same bucket */
  respool_bytes name; /* without bytes: it cannot be found */
  respool_payload item;
  respool_push_options options;
  int64_t since;
  uint64_t version;
} merge_slot;

typedef struct buffer_fill {
  push_group *groups, *last_group;
  merge_slot *slots, *last_slot;
  merge_slot **buckets;  /* of slots by name */
  size_t n_buckets;      /* a power of two */
  size_t n_slots;        /* that have a name */
  uint64_t items, bytes, pushes;
  uint64_t memory;       /* that it takes, nearly */
  int64_t first_at;
} buffer_fill;

void fill_free(buffer_fill *l); /* back to empty */

/* Do the options of a push count from its time? */
bool is_timed(const respool_push_options *o);

/* Adds an item; 0 or RESPOOL_NOMEM, as of all here that return int. `now` is
   the time if its options are timed. */
int fill_add(buffer_fill *l, const respool_payload *it,
             const respool_push_options *o, int64_t now);

/* The slot under `name`; NULL when there is none. */
merge_slot *fill_find(const buffer_fill *l, respool_bytes name);

/* Gives the slot `*s` new content; NULL: adds one. */
int fill_put(buffer_fill *l, merge_slot **s, respool_bytes name,
             const respool_payload *it, const respool_push_options *o,
             int64_t now);

/* Ends all groups. May be called again. */
int fill_end(buffer_fill *l);

/* The options of a group, with what is left of their times at `now`. */
respool_push_options group_options(const push_group *p, int64_t now);

/* Halves the first group of an ended fill; false when it is a single item, or
   memory is out. */
bool fill_halve(buffer_fill *l);

/* Removes the first group. */
void fill_shift(buffer_fill *l);

/* A copy that is the caller's to free(). */
int copy_bytes(respool_bytes from, respool_bytes *to);

uint64_t payload_weight(const respool_payload *it);

#endif

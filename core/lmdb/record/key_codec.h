/* SPDX-License-Identifier: MIT */
/*
 * Keys: fixed-size fields, big-endian, so that LMDB's byte order is the
 * order of the numbers. doc/format.md draws them.
 */
#ifndef KEY_CODEC_H
#define KEY_CODEC_H

#include "lmdb/env/txn/table.h"

/* Small, because a take or a dead letter makes several. */
typedef struct key {
  uint8_t b[31];
  uint8_t n;
} key;

/* A key that ends with a name. */
typedef struct name_key {
  uint8_t b[12 + RESPOOL_NAME_MAX];
  size_t n;
} name_key;

enum space {
  SPACE_READY = 0,   /* reached from its priority's head */
  SPACE_DELAYED = 1, /* pushed with a due time: reached through its claim */
  SPACE_SOLO = 2,    /* alone in a segment: reached through its claim */
  SPACE_JOURNAL = 3, /* leased in the journal: reached through its claim */
  SPACE_PARTED = 4,  /* of partitions, as pushed: reached through those, or
                        through its claim */
  SPACE_PARTED_SOLO = 5, /* the same, alone in a segment, with a claim */
  SPACE_COUNT
};

/* Are the items of a line of partitions? */
#define IS_PARTED(l) ((l)->space >= SPACE_PARTED)

/* A line of ids: a space of a priority of a queue. */
typedef struct line {
  uint32_t queue;
  int space, priority;
} line;

/* The place of a segment or a claim; of a claim `count` is 0. */
typedef struct place {
  line line;
  uint64_t first;
  uint32_t count;
} place;

typedef struct due_key {
  place claim;
  int64_t at;
} due_key;

respool_bytes key_bytes(const key *k);
respool_bytes name_key_bytes(const name_key *k);

key segment_key(const place *p);
key claim_key(const place *p);
key due_key_of(const place *p, int64_t visible_at);
key expiry_key(const place *p, int64_t expires_at);
key blob_key(uint64_t number, uint32_t part);
key dead_key(uint32_t dlq, uint64_t last, uint64_t count);
key history_key(uint32_t queue, int64_t done_at, uint64_t id);
name_key unique_key(uint32_t queue, respool_bytes name);
name_key window_key(uint32_t queue, int64_t until, respool_bytes name);

/* Of partitions; their names end keys as those of `keys` and `windows`. */
#define partition_key unique_key
#define partition_due_key window_key
#define partition_due_read window_key_read
#define lone_key window_key /* with the number of a run */

/* A list of ids of a partition, in `partition_items`. */
typedef struct ids_key {
  uint32_t queue;
  uint64_t partition;
  int priority, kind;
  uint64_t first;
} ids_key;

key ids_key_of(const ids_key *k);
bool ids_key_read(respool_bytes b, ids_key *k);

key turn_key(uint32_t queue, int priority, uint64_t number);
bool turn_key_read(respool_bytes b, uint32_t *queue, int *priority,
                   uint64_t *number);

/* Reading back; false when the bytes are not of that form. */
bool segment_key_read(respool_bytes b, place *p);
bool claim_key_read(respool_bytes b, place *p);
bool due_key_read(respool_bytes b, due_key *d);
bool expiry_key_read(respool_bytes b, place *p, int64_t *expires_at);
bool blob_key_read(respool_bytes b, uint64_t *number, uint32_t *part);
bool history_key_read(respool_bytes b, uint32_t *queue, int64_t *done_at,
                      uint64_t *id);
bool window_key_read(respool_bytes b, uint32_t *queue, int64_t *until,
                     respool_bytes *name);
bool dead_key_read(respool_bytes b, uint32_t *dlq, uint64_t *last,
                   uint64_t *count);

bool same_line(const line *a, const line *b);
uint64_t place_last(const place *p); /* last id of a segment */

#endif

/* SPDX-License-Identifier: MIT */
/*
 * A partition: all items of a queue with one key. Its record says how many
 * there are, which are ready, and what bounds the taking of them. The ids of
 * those that are ready are in rising order: the first of them, its head, lie in
 * the record, the others in `partition_items`.
 */
#ifndef PARTITION_RECORD_H
#define PARTITION_RECORD_H

#include "base/arena.h"
#include "lmdb/record/records.h"

#define LIST_RUNS 64 /* of a list of ids */

typedef struct id_run {
  uint64_t first, n;
} id_run;

/* Ids in rising order; of items that are alone in their segments, or of none
   that is. */
typedef struct id_list {
  bool solo;
  size_t n, cap;
  id_run *runs; /* in an arena */
} id_list;

/* The items of one priority of a partition. */
typedef struct partition_line {
  int priority;
  uint64_t ready, leased, waiting;
  bool in_turn; /* its name is in `turns` */
  bool more;    /* there are ids behind the head */
  id_list head;
} partition_line;

typedef struct partition {
  struct partition *next;  /* in its bucket */
  struct partition *later; /* loaded after it */
  respool_bytes name;
  bool dirty, stored;
  uint64_t number; /* never used again in its queue */
  uint64_t lone;   /* an item that is in no line; 0: none */
  int lone_priority;
  int64_t due;     /* of its entry in `partition_due`; 0: it has none */
  flow *flow;      /* or NULL: nothing has happened in it */
  partition_line *lines;
  size_t n_lines, cap_lines;
} partition;

/* A turn: of a line, or of a lone item. */
typedef struct partition_turn {
  partition *of; /* NULL: of a lone item */
  uint64_t lone;
  int priority;
} partition_turn;

/* The partitions of a queue that a transaction has loaded. */
typedef struct partition_set {
  arena memory;
  partition **buckets;
  size_t n_buckets, n;
  partition *first, **end;
  partition_turn *given; /* to be stored */
  size_t n_given, cap_given;
  packer record; /* the one being made */
} partition_set;

void partition_set_free(queue *q);

/* A record of the queue's partitions cannot be read: CORRUPT or NOMEM, unless
   the transaction has failed before. */
void partition_unread(txn *t, const queue *q, int rc);

/* ---- lists of ids -------------------------------------------------------- */

/* Adds `n` ids behind all others; false when the list has no room for another
   run, or, with `*rc` set, for want of memory. */
bool ids_add(id_list *l, arena *a, uint64_t first, uint64_t n, int *rc);

uint64_t ids_count(const id_list *l);
uint64_t ids_first(const id_list *l); /* UINT64_MAX: it is empty */
uint64_t ids_last(const id_list *l);  /* 0: it is empty */

/* Takes the first id out; the list is not empty. */
uint64_t ids_take(id_list *l);

/* Takes an id out, wherever it is; false when it is not there. May make one run
   more. */
bool ids_remove(id_list *l, arena *a, uint64_t id, int *rc);

/* Moves the ids from `id` on to `rest`. */
int ids_split(id_list *l, arena *a, uint64_t id, id_list *rest);

/* ---- stored -------------------------------------------------------------- */

/* Unpacking returns 0, RESPOOL_CORRUPT or RESPOOL_NOMEM. */
void ids_pack(packer *p, const id_list *l);
int ids_unpack(respool_bytes k, respool_bytes b, arena *a, id_list *l);

void partition_pack(packer *p, const partition *x);
int partition_unpack(respool_bytes k, respool_bytes b, arena *a, partition *x);

/* A turn as it is stored: of the partition with this number and name, or of a
   lone item. */
typedef struct stored_turn {
  uint64_t lone; /* 0: of the partition */
  uint64_t number;
  respool_bytes name;
} stored_turn;

/* Turns, `n` of them: [checksum, [turn, ...]], each the id of a lone item or
   [number, name]. */
void turn_pack(packer *p, const partition_turn *x);
bool turns_open(respool_bytes k, respool_bytes b, unpacker *u, size_t *n);
bool turn_unpack(unpacker *u, stored_turn *x);

#endif

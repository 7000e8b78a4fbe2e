/* SPDX-License-Identifier: MIT */
/*
 * Records: the values of all tables but segments, as CBOR arrays, packed and
 * unpacked in one place; doc/format.md names their fields. The first is a
 * checksum, seeded with the record's key, so a record under another's key is as
 * damaged as one with a wrong byte. A record that is damaged, or of another
 * form, unpacks as false.
 */
#ifndef RECORDS_H
#define RECORDS_H

#include "lmdb/record/key_codec.h"
#include "policy/flow.h"
#include "policy/policy.h"
#include "record/dead/run.h"
#include "record/dead/replay.h"

typedef struct priority_state {
  int priority;
  uint64_t head; /* the next id to be delivered for the first time */
  uint64_t ready, leased, scheduled, retrying;
  int64_t credit; /* see queue/weights.c */
  uint64_t listed; /* each item of space PARTED below it is in a claim */
} priority_state;

/* Something will be at that time: `*from`, before which nothing is, is no
   later, if it is known. */
static inline void time_comes(int64_t *from, int64_t at) {
  if (*from > at) *from = at;
}

/* The unsettled items of a priority. */
uint64_t priority_items(const priority_state *l);

/* A run of lone items: see partition/lone_runs.h. */
typedef struct lone_run {
  uint64_t number;
  uint64_t first, last; /* ids */
  uint64_t n;           /* items, some of which may have ended */
} lone_run;

/* A queue: its policy, state and counters. */
typedef struct queue {
  struct queue *next;
  bool dirty;
  char name[RESPOOL_NAME_MAX + 1];
  uint32_t id;
  bool paused;
  queue_config config;
  uint64_t next_id, next_token;
  int64_t clock_last, clock_offset;
  uint64_t bytes;
  bool tell;        /* the journal after this transaction: what is due when
                       may have changed, as with all that is dirty */
  bool clock_reset; /* in this transaction: its time went back, being empty */
  int64_t ready_at;
  /* Before these times no claim is due, nothing expires or leaves its window,
     and no partition is due, as far as is known; 0: nobody has looked. Not
     stored. */
  int64_t due_from[RESPOOL_PRIORITIES], expires_from, windows_from, parted_from;
  bool touched; /* in this transaction: what the journal had is applied */
  respool_queue_stats counters; /* only those since the queue was made */
  priority_state *priorities;            /* highest first */
  size_t n_priorities;
  flow *flow; /* or NULL: nothing has happened in it */
  uint64_t n_partitions, next_partition; /* with lone items, and a number */
  uint64_t n_lones; /* partitions that are but a lone item */
  lone_run *runs;   /* by their ids */
  size_t n_runs, cap_runs;
  struct partition_set *parted; /* those loaded, and their turns; or NULL */
} queue;

/* Parked: of a partition's item whose turn it is; it has no entry in `due`. */
enum claim_state { CLAIM_LEASED = 1, CLAIM_WAITING = 2, CLAIM_PARKED = 3 };

typedef struct claim {
  uint64_t last; /* the last id; the first is in the key */
  int state;
  uint64_t token;
  int64_t visible_at;
  uint64_t left; /* items of the range that are not settled */
  uint64_t attempts, deliveries, crashes;
  int64_t delay; /* the last one, for decorrelated jitter */
  respool_bytes failures, memo;
} claim;

/* Has any of its items failed or crashed before? */
bool claim_has_failed(const claim *c);

typedef struct dlq {
  struct dlq *next;
  bool dirty;
  char name[RESPOOL_NAME_MAX + 1];
  uint32_t id;
  uint64_t next_number;
  uint64_t count;
  uint64_t bytes;   /* of them; DLQ_UNMEASURED: the record does not say */
  uint64_t dropped; /* by the bounds below, ever */
  int64_t most_items, most_bytes; /* for those who bury in this transaction */
  size_t added;     /* in it */
  dead_run run;     /* added, and not stored yet */
  size_t run_bytes; /* at most */
  uint64_t stored;  /* bytes of runs, in this transaction */
  packer room;      /* for its records, one after the other */
} dlq;

#define DLQ_UNMEASURED UINT64_MAX

/* The seed of a record's checksum: a hash of its key as it lies in its tree. */
uint64_t record_seed(enum db db, respool_bytes k);

/* Stores a packed record: fills in its checksum, or notes the packer's
   error. */
void record_put(txn *t, enum db db, respool_bytes k, packer *p);

void priority_pack(packer *p, const priority_state *l);
void queue_pack(packer *p, const queue *q);

/* 0, CORRUPT or NOMEM; what it holds is freed by queue_clear. */
int queue_unpack(respool_bytes k, respool_bytes b, queue *q);
void queue_clear(queue *q);

void claim_pack(packer *p, const claim *c);
bool claim_unpack(respool_bytes k, respool_bytes b, claim *c);
bool claim_fields_unpack(unpacker *u, claim *c); /* behind the checksum */

void dlq_pack(packer *p, const dlq *x);
bool dlq_unpack(respool_bytes k, respool_bytes b, dlq *x);

bool named_replay_unpack(respool_bytes k, respool_bytes b, respool_replay *j);

/* A finished item: [checksum, pushed_at, attempts, deliveries, priority,
   payload version, item]; the time when it was done and its id are in the key.
   Unpacking stops before the item. */
void history_pack(packer *p, const respool_item_about *i,
                  respool_bytes packed);
bool history_unpack(respool_bytes k, respool_bytes b, respool_item_about *i,
                    unpacker *u);

/* The item that owns a key that a caller chose, and until when its window is
   open; 0: it has none. */
typedef struct key_owner {
  uint64_t id;
  int64_t until;
} key_owner;

void owner_pack(packer *p, key_owner h);
bool owner_unpack(respool_bytes k, respool_bytes b, key_owner *h);

/* Some numbers. */
void row_pack(packer *p, const uint64_t *row, size_t n);
bool row_unpack(respool_bytes k, respool_bytes b, uint64_t *row, size_t n);

/* A note: bytes that a program keeps under a name. */
void note_pack(packer *p, respool_bytes note);
bool note_unpack(respool_bytes k, respool_bytes b, respool_bytes *note);

/* An entry: bytes that the library keeps under a name; see engine.h. */
typedef struct entry {
  uint64_t revision;
  respool_bytes bytes;
} entry;

void entry_pack(packer *p, const entry *e);
bool entry_unpack(respool_bytes k, respool_bytes b, entry *e);

/* Parts of blobs: [checksum, bytes]. */
#define BLOB_PART 16300
void part_pack(packer *p, respool_bytes data);
bool part_unpack(respool_bytes k, respool_bytes b, respool_bytes *data);

/* The bitmap of a segment: [checksum, bytes]. A set bit stands for an unsettled
   item. */
typedef struct bits {
  uint32_t count, set;
  uint8_t b[SEGMENT_ITEMS / 8];
} bits;

void bits_fill(bits *s, uint32_t count);
bool bits_has(const bits *s, uint32_t i);
bool bits_clear(bits *s, uint32_t i); /* was it set? */
void bits_pack(packer *p, const bits *s);
bool bits_unpack(respool_bytes k, respool_bytes b, uint32_t count, bits *s);

#endif

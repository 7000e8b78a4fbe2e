/* SPDX-License-Identifier: MIT */
/*
 * A dead letter, and how PostgreSQL stores it: [checksum, format, own key, rest
 * of the fields ...]; its item is packed as item.h has it, its failures as
 * failures.h has them. LMDB stores runs of them: see run.h.
 */
#ifndef DEAD_RECORD_H
#define DEAD_RECORD_H

#include "record/page.h"

#define DEAD_FORMAT 2

/* Why and how an item died. */
typedef struct death {
  const char *reason, *dlq; /* DLQ NULL: the queue's */
  respool_bytes group, error, failures, memo;
  uint64_t attempts, deliveries, crashes, items;
  int64_t at;
} death;

/* A failure that happened elsewhere, pushed as a dead letter. */
typedef struct dead_push {
  const char *reason, *dlq; /* DLQ NULL: the queue's */
  respool_bytes error, trace, group;
  uint64_t attempts;
} dead_push;

/* Its death; what it had to pack lies in the arena. 0 or NOMEM. */
int death_of_push(arena *a, const dead_push *f, int64_t at, death *d);

typedef struct dead {
  respool_dead_letter r; /* without body, headers, original, replays, history */
  respool_bytes failures;
  respool_bytes item;
  respool_bytes memo;
} dead;

/* The dead letter of an item of a queue; borrows from all of them. */
dead dead_of(const death *d, const char *queue, const respool_item *i,
             respool_bytes packed);

/* The number of a reason in respool_queue_stats.died_by; -1: expired items
   are counted apart. */
int death_number(const char *reason);

void dead_pack(packer *p, respool_bytes key, const dead *l);

/* Reads what is behind the format and the own key. */
void dead_fields_unpack(unpacker *u, dead *l);

/* Verifies the checksum, which covers the key. */
bool dead_unpack(respool_bytes key, respool_bytes b, dead *l);

/* Shows a stored dead letter, but for its item: `*r` has copies, `*l` borrows
   from `stored`. A record that cannot be read is shown as damaged, with its
   bytes; it has no item then. 0 or NOMEM. */
int dead_show(arena *a, respool_bytes key, respool_bytes stored,
              respool_dead_letter *r, dead *l);

int dead_show_fields(arena *a, const dead *l, respool_dead_letter *r);
int dead_show_damaged(arena *a, respool_bytes stored, respool_dead_letter *r);

/* Shows its item, or the bytes where `i` is NULL, as they cannot be read. */
void dead_show_item(respool_dead_letter *r, const item *i,
                    respool_bytes packed);

/* Copies what is small of its item, and shows nothing of what may be large. */
int dead_keep_marks(arena *a, respool_dead_letter *r);

/* Makes the item of a dead letter ready to be pushed again: counts a replay,
   sets the origin, and puts a transformed body in place of its own; the first
   body stays as the original. */
void dead_renew(item *i, const dead *l, const respool_move *m);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The log: records one after the other in two halves of a file that is
 * written with zeros once, so that a flush needs no metadata. Position p lies
 * in epoch p / half, at byte p % (2 * half) behind the first page.
 *
 *   first page   struct head: whose file this is, where its log begins
 *   PUSH         record, a piece for each item, payloads; padded to 8 bytes
 *   DONE         record, an id for each item
 *   END          record alone: the log goes on in the other half
 *
 * A record's sum is XXH3 of all behind it, seeded with `prev`, the sum of the
 * record before it; the first record's is the seed of the file. Numbers are
 * little-endian, as memory has them.
 */
#ifndef JOURNAL_LOG_H
#define JOURNAL_LOG_H

#include <sys/types.h>

#include "lmdb/journal/files/control.h"

enum { RECORD_PUSH = 1, RECORD_DONE, RECORD_END };

typedef struct record {
  uint64_t sum, prev, pos, queue, first;
  int64_t time, expires;
  uint32_t len; /* all of it, a multiple of 8 */
  uint8_t kind, priority;
  uint16_t count;
} record;

typedef struct piece {
  uint32_t len, sum;
} piece;

/* Kept free in the half for each live item, so that its DONE has room. */
#define DONE_ROOM (sizeof(record) + sizeof(uint64_t))

typedef struct head {
  uint8_t magic[8];
  uint32_t layout, reserved;
  uint64_t half, start, seed;
  uint8_t store[16];
  uint64_t sum;
} head;

/* ---- the file ---- */

/* Opens the journal and reads its head: 0, NOT_FOUND, VERSION, CORRUPT. */
int log_open(int dirfd, const uint8_t store[16], int *fd, head *h);

/* Removes the file, whose records are all in LMDB. */
int log_remove(const journal *j);

/* Makes a file of zeros that begins at `start` take the journal's name. */
int log_make(journal *j, uint64_t start);

/* Sees to it that j->fd is the file that the block speaks of. */
int log_reopen(journal *j);

static inline off_t log_place(uint64_t half, uint64_t pos) {
  return (off_t)(PAGE + pos % (2 * half));
}

uint32_t payload_sum(const void *p, size_t n, uint64_t id);

/* The bytes of a packed item's body. */
size_t payload_body(const void *p, size_t n);

/* ---- records ---- */

/* In `half` bytes of one half, at `pos`: a whole record that fits there, or
   NULL. `chained` tells that it follows on `chain`. */
const record *record_at(const uint8_t *bytes, uint64_t half, uint64_t pos);
bool record_follows(const record *r, uint64_t chain);

/* ---- the tail; with the state lock ---- */

/* Room for a record that leaves `spare` bytes, going to the other half when
   that is free. False: apply first. */
bool log_room(journal *j, size_t len, uint64_t spare);

/* Writes j->record behind the tail; the tail itself is moved by log_advance,
   when the block is up to date. */
int log_write(journal *j);
void log_advance(journal *j);

/* Writes what lies between `from` and the tail once more: after a flush that
   failed the kernel calls pages clean that never got to the disk. */
int log_write_again(const journal *j, uint64_t from);

/* Is it time to apply what lies before the current half? Told once. */
bool log_due(control *c);

/* Counts the items pushed so far in the current half to the older one. */
void log_half_is_old(control *c);

#endif

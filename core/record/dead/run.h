/* SPDX-License-Identifier: MIT */
/*
 * A run of dead letters as LMDB stores it: those that died alike, in the order
 * of their numbers, share one record, which has what they have in common once:
 *
 *   [checksum, format, own key, common fields ...,
 *    [[number, id, pushed_at, item], ...]]
 *
 * A dead letter that has nothing in common with those beside it is a run of
 * one. A repair that finds a run without its key puts it back by its own.
 */
#ifndef DEAD_RUN_H
#define DEAD_RUN_H

#include "record/dead/record.h"

#define RUN_FORMAT 3
#define RUN_LETTERS 1024 /* in one record at most */
#define RUN_BYTES SEGMENT_BYTES /* of more than one, as of a segment */

/* Verifies a record, whose checksum covers its key, and reads the fields that
   its dead letters have in common; borrows from it. */
typedef struct dead_reader {
  dead l;        /* the dead letter that was read last */
  uint64_t left; /* to be read */
  unpacker u;    /* at the next */
} dead_reader;

bool dead_run_open(respool_bytes key, respool_bytes stored, dead_reader *r);
bool dead_run_next(dead_reader *r); /* false at the end */

/* Has it `count` dead letters, the last of number `last`, all readable? */
bool dead_run_is_sound(respool_bytes key, respool_bytes stored, uint64_t last,
                       uint64_t count);
respool_bytes dead_run_own_key(respool_bytes stored); /* data NULL: none */

/* A run that grows; zero it to begin. */
typedef struct dead_run {
  dead like;      /* its first dead letter, but for the item */
  arena memory;   /* of its texts */
  packer letters; /* as they are stored */
  uint64_t n, last;
} dead_run;

/* Did this one die like those of the run, and is there room for it in `most`
   bytes? */
bool dead_run_takes(const dead_run *r, const dead *l, size_t most);

/* Adds a dead letter; the first one of a run decides what they share. 0 or
   NOMEM. */
int dead_run_add(dead_run *r, const dead *l);
void dead_run_pack(packer *p, respool_bytes key, const dead_run *r);
void dead_run_reset(dead_run *r); /* empty; it keeps its memory */
void dead_run_free(dead_run *r);

#endif

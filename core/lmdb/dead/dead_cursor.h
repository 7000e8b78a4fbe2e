/* SPDX-License-Identifier: MIT */
/*
 * Reading the dead letters of a DLQ one by one, in the order of their numbers
 * or against it, whatever runs they are stored in.
 */
#ifndef DEAD_CURSOR_H
#define DEAD_CURSOR_H

#include "lmdb/env/txn/cur.h"
#include "lmdb/record/records.h"

typedef struct dead_cursor {
  cur c;           /* at the record of the dead letter */
  uint32_t dlq;
  uint64_t from;
  bool down, begun;
  uint64_t last, count; /* of the record, by its key */
  bool damaged;    /* the record is: it shows as one dead letter, its last */
  uint64_t number; /* of the dead letter */
  dead_reader run;  /* that has read it */
  size_t n_before; /* down: dead letters of the run before it */
  uint32_t at[RUN_LETTERS]; /* where they are */
} dead_cursor;

/* From the dead letter of number `from` on, which need not be there. */
void dead_cursor_open(dead_cursor *w, txn *t, uint32_t of, uint64_t from,
                      bool down);
bool dead_cursor_next(dead_cursor *w); /* also to the first */
void dead_cursor_close(dead_cursor *w);

/* The least number that a dead letter of a damaged record can have had, unless
   some that were between them had gone before. */
uint64_t dead_first_of(uint64_t last, uint64_t count);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Reading the log from a position on: to build the block when the store is
 * opened, to repair it when a process died inside it, and for those who look
 * without one.
 */
#ifndef JOURNAL_SCAN_H
#define JOURNAL_SCAN_H

#include "lmdb/journal/slots.h"

/* A walk over the chained records from a point to `limit`, or as far as the log
   is whole; at most into the half after the one it begins in. */
typedef struct trail {
  int fd, rc;
  uint64_t half, last_epoch, loaded, limit;
  point at, current; /* behind the last record; where its half began */
  uint8_t *bytes;    /* of the loaded epoch */
} trail;

int trail_open(trail *w, int fd, uint64_t half, point from, uint64_t limit);
void trail_close(trail *w);
const record *trail_next(trail *w); /* PUSH or DONE; NULL: the end, or w->rc */

/* Builds items, rows and the end of the log in `c` from the file. */
int scan_build(control *c, int fd, point from, uint64_t limit);

/* By the first to open. */
int scan_first(journal *j, point from);

/* With the state lock, whose holder died: the same up to the tail. */
int scan_repair(journal *j);

#endif

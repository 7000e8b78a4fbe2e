/* SPDX-License-Identifier: MIT */
/*
 * Rows of v1_taken: what a take, an expiry or a look answers.
 */
#ifndef TAKEN_H
#define TAKEN_H

#include "postgres/record/run.h"
#include "postgres/client/values.h"

enum taken_kind {
  TAKEN_HEAD, TAKEN_RUN,
  TAKEN_CRASHED, /* to be buried: its last item has crashed too often */
  TAKEN_EXPIRED, /* to be buried, or dropped */
  TAKEN_FRESH    /* of a row: the head, and a run that is read as TAKEN_RUN */
};

/* The first row, which may be that of a run as well. Times are the server's. */
typedef struct taken_head {
  uint64_t token;       /* 0: nothing was taken */
  int64_t now, next_due; /* next_due 0: nothing waits */
  int32_t policy;
} taken_head;

/* A run; all is borrowed from the result. */
typedef struct taken {
  int kind, place;
  uint64_t token; /* of its lease; 0: it is not leased */
  uint64_t first;
  uint32_t n, live, skip;
  const uint8_t *bits; /* NULL: all n are live */
  int64_t due;
  int state, priority; /* state 0 fresh, 1 leased, 2 waiting */
  uint64_t attempts, deliveries, crashes, version;
  int64_t delay, pushed_at, expires_at;
  size_t n_lapses; /* leases that ran out and are not in the history yet */
  respool_bytes history, memo, bytes;
  int row;
  bool cancelled; /* of the history */
} taken;

/* False: the answer is no such row. */
bool taken_head_read(const PGresult *r, taken_head *h);
bool taken_read(const PGresult *r, int row, taken *t);

/* A row of the table history, as a run of what is kept of it; its queue. */
int taken_read_finished(const PGresult *r, int row, taken *t);

int64_t taken_lapse(const PGresult *r, const taken *t, size_t i);

bool taken_live(const taken *t, uint32_t i); /* of n */

/* Of a head: credits of weighted priorities, how many, and the first `n` into
   `out`; and what v1_expire dropped by itself: how many runs, of how many
   items. */
size_t taken_credits(const PGresult *r, int64_t *out, size_t n);
size_t taken_marks(const PGresult *r); /* how many numbers, see marks.h */
int64_t taken_mark(const PGresult *r, size_t i);
size_t taken_dropped(const PGresult *r, uint64_t *items);

#endif

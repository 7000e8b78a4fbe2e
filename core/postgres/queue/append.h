/* SPDX-License-Identifier: MIT */
/*
 * Append: the items of one push, or of several that are alike, as runs, with
 * ids out of the session's block.
 */
#ifndef POSTGRES_APPEND_H
#define POSTGRES_APPEND_H

#include "postgres/queue/plan.h"

typedef struct appending {
  const char *name;  /* of the queue */
  append_req **of;   /* one; or more that are alike */
  size_t n;
  uint64_t owner_token; /* of the lease that it depends on */
  uint64_t items;    /* of all of them */
  uint64_t fit;      /* of these, as many are pushed; the others die: the
                        queue is full. At first all are */
  bool keyless;      /* its key is another item's by now: it goes without */
  pg_queue queue;
  uint64_t first;    /* id */
  size_t push, dead; /* requests */
  int64_t died_at;
} appending;

/* Begins with one push, the first of `of`, which has room for all to join. */
void append_begin(appending *a, const char *name, append_req **of);

/* Adds one that is alike. */
void append_join(appending *a, append_req *r);

/* May `b` be pushed together with `a`? */
bool append_alike(const append_req *a, const append_req *b);

/* Adds the requests; 0 or a refusal of its own: NOT_FOUND, TOO_LARGE. */
int append_plan(plan *p, appending *a);

/* The plan was refused: its ids are free again. In the reverse order. */
void append_undo(plan *p, appending *a);

/* Once the plan has happened: results and notices. */
void append_end(plan *p, appending *a);

/* The room that is left in a queue; below 0: no limit. */
typedef struct append_room {
  int64_t items, bytes;
} append_room;

/* The push was refused: true if it may be planned anew, with fewer items. Else
   `never_fits` of its requests is set. `room` is filled where the queue was
   full. */
bool append_refused(const plan *p, appending *a, append_room *room);

/* Is there room for all its items? Then it is taken from the room. */
bool append_takes_room(const appending *a, append_room *room);

/* QUERY_FITS. */
int append_fits(const pg_queue *q, const char *name, append_req *r);

#endif

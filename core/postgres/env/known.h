/* SPDX-License-Identifier: MIT */
/*
 * Queues as this process remembers them: their ids and policies, so that a verb
 * needs no look before it; the functions of the schema refuse an old version.
 * And the findings of takes, and counters that are reported now and then.
 */
#ifndef POSTGRES_KNOWN_H
#define POSTGRES_KNOWN_H

#include "postgres/env/env.h"
#include "postgres/record/marks.h"

typedef struct pg_queue {
  int id, version; /* id 0: not known */
  bool paused;
  queue_config config;
} pg_queue;

/* What the last takes leave to the next. */
typedef struct take_marks {
  int id; /* of the queue */
  marks marks;
  int64_t *credits;   /* of weighted priorities */
  size_t n_credits;
} take_marks;

/* Counters that v1_observe tells. */
typedef struct observed {
  uint64_t late, delivered, delivered_bytes;
  respool_histogram wait, handle;
} observed;

/* The queue as it is remembered, else as it is stored: 0, NOT_FOUND, or why
   the server cannot be asked. */
int known_find(pg_env *e, session *l, const char *name, pg_queue *out);

/* As it is stored now. */
int known_load(pg_env *e, session *l, const char *name, pg_queue *out);

void known_forget(pg_env *e, const char *name);

/* The queue was dropped: the next queue of its name has counters of its own. */
void known_drop(pg_env *e, const char *name);

/* The marks of the queue with that id, for apply alone, as no lock keeps them;
   NULL: the queue is not known. */
take_marks *known_marks(pg_env *e, const char *name, int id);

/* Adds to the counters of a queue, once they are known to be right. */
void known_observe(pg_env *e, const char *name, const observed *more);

/* Reports to the server all counters that it does not have yet. */
void known_tell(pg_env *e);

/* The same of queues whose counters have waited for a second; for apply. */
void known_tell_old(pg_env *e);

void known_free(pg_env *e);

int no_queue(const char *name); /* NOT_FOUND */

#endif

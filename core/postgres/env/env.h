/* SPDX-License-Identifier: MIT */
/*
 * A store in a database that is open in this process: its sessions, and what
 * is remembered of the server and of its queues. All handles with the same
 * URL share one environment.
 *
 * The committer has a session of its own, the waiting thread another; looks
 * borrow one of a few.
 */
#ifndef POSTGRES_ENV_H
#define POSTGRES_ENV_H

#include "engine.h"
#include "postgres/client/call.h"

typedef struct pg_env {
  env base;
  char *path; /* the URL as it was given */
  bool read_only;
  unsigned refs;
  struct pg_env *next;
  url url;
  _Atomic bool prepare;
  struct random chance;
  session writer; /* of apply, which is called by one thread at a time */
  struct bells *bells; /* see bells.h */

  pthread_mutex_t lock; /* guards what follows */
  struct known_queue *queues; /* see known.h */
  struct looker *lookers;
  int n_lookers;
  pthread_cond_t given_back; /* a session for looks */
  bool timed;       /* a server's time was seen: */
  int64_t ahead;    /* by so much of this process's monotonic clock */
  uint64_t unflushed; /* commits that may not be on disk yet */
  respool_histogram took, operations; /* of commits */
} pg_env;

/* Borrows a session for looks. */
session *pg_session_take(pg_env *e);
void pg_session_give(pg_env *e, session *l);
void pg_sessions_close(pg_env *e); /* all of them */

/* The server's time, as near as it is known; notes what an answer says. */
int64_t pg_now(pg_env *e, int64_t now);
void pg_note_time(pg_env *e, int64_t server);

#endif

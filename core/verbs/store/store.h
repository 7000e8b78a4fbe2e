/* SPDX-License-Identifier: MIT */
/*
 * The store's handle, and what all verbs do with it.
 */
#ifndef STORE_H
#define STORE_H

#include "base/clock.h"
#include "base/random.h"
#include "commit/ticket.h"
#include "threads/timer.h"

/* The buffers of a store: see buffer_list.c. */
typedef struct store_buffers {
  pthread_mutex_t lock;
  struct respool_buffer *first;
  _Atomic uint64_t failures; /* of their flushes */
} store_buffers;

/* Batches that were freed, kept with their memory for the next takes. */
typedef struct kept_batches {
  pthread_mutex_t lock;
  respool_batch *first;
  size_t bytes; /* that they hold, KEPT_MAX at most */
} kept_batches;

#define KEPT_MAX ((size_t)16 << 20)

struct respool {
  env *env;
  struct clock clock;
  struct random random;
  timers timers;
  timers calls;      /* of tickets, by a clock that is never manual */
  struct clock real; /* which is this */
  store_buffers buffers;
  kept_batches kept;
  notices notices; /* dead letters of maintenance and of replays */
  bool durable; /* verbs return when their effect is on disk */
  bool read_only;
  bool no_journal; /* of the LMDB engine */
  uint64_t max_bytes, max_item_bytes;
  int64_t timeout; /* ms to wait for other processes; 0: for ever */
  uint64_t sampled; /* hash of the figures that this handle sampled last */
  int pid;
  unsigned forks; /* as counted when it was opened */
  /* with the committer's lock: tickets that run, calls ever made */
  int running;
  int64_t called;
  struct respool *next_open; /* of exit.c */
};

#define LEASE_MAX ((int64_t)7 * 24 * 3600 * 1000)

/* The forks that led to this process, counted from when the first store was
   opened. */
unsigned store_forks(void);
void store_count_forks(void);

/* The list for notices of dead letters; NULL when nobody asks for them. */
notices *store_notices(respool *s);

/* 0, or what is wrong with the handle: FORKED in another process. */
int store_check(const respool *s);

/* 0, or INVALID: names have 1..255 bytes. `what` names the argument. */
int name_check(const char *name, const char *what);

/* The store's time for a unit or query. */
int64_t store_time(const respool *s);

/* Commits a unit that was filled but for its time; durable when the store is,
   too. INVALID when the store was opened read-only. */
int store_commit(respool *s, unit *u);

/* Commits one step. */
int store_commit_step(respool *s, step *p, bool durable);

/* A ticket of this store; see ticket_new. */
respool_ticket *store_ticket(respool *s, size_t size);

/* Starts a ticket's unit, as store_commit does. */
int store_start(respool_ticket *t);

/* Returns when all earlier commits are on disk. */
int store_flush(respool *s);

/* Answers a query that was filled but for its time. */
int store_look(respool *s, query *q);

/* How many records one commit of a long removal takes. A disk that is full has
   room for a small one, which gives back what the next needs. */
typedef struct commit_size {
  size_t page, most;
} commit_size;

/* After a commit that came to `rc`: 0 when another may be tried, with less. */
int adjust_commit_size(commit_size *p, int rc);

#endif

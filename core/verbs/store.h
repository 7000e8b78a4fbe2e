/* SPDX-License-Identifier: MIT */
/*
 * The handles behind the public verbs, and what the verbs share.
 */
#ifndef STORE_H
#define STORE_H

#include "base/clock.h"
#include "engine.h"
#include "base/random.h"
#include "commit/ticket.h"
#include "base/timer.h"

/* The buffers of a store: see buffers.c. */
typedef struct store_buffers {
  pthread_mutex_t lock;
  struct respool_buffer *first;
  _Atomic uint64_t failures; /* of their flushes */
} store_buffers;

struct respool {
  env *env;
  struct clock clock;
  struct random random;
  timers timers;
  timers calls;      /* of tickets, by a clock that is never manual */
  struct clock real; /* which is this */
  store_buffers buffers;
  bool durable; /* verbs return when their effect is on disk */
  bool read_only;
  uint64_t max_bytes, max_item_bytes;
  int pid;
  unsigned forks; /* as counted when it was opened */
  /* with the committer's lock: tickets that run, calls ever made */
  int running;
  int64_t called;
};

struct respool_queue {
  respool *store;
  _Atomic int refs; /* its owner, tickets, keepers */
  /* What the last wait for items learnt at `idle_seen`: nothing since commit
     `idle_at`, the next due at `idle_due`; and how often to look. Hints. */
  _Atomic uint64_t idle_at;
  _Atomic int64_t idle_seen, idle_due, idle_poll;
  _Atomic int64_t bound; /* max_queue_bytes as seen last; KEEP: not yet */
  notices notices;       /* dead letters that this handle has made */
  char name[RESPOOL_NAME_MAX + 1];
};

/* 0, or what is wrong with the handle: FORKED in another process. */
int store_check(const respool *s);

/* 0, or INVALID: names have 1..255 bytes. `what` names the argument. */
int name_check(const char *name, const char *what);

/* Says "<what> must be <rule>" and returns INVALID. */
int invalid(const char *what, const char *rule);

#define LEASE_MAX ((int64_t)7 * 24 * 3600 * 1000)

/* Runs an operation on the store; durable when the store is. INVALID when it
   was opened read-only. */
int store_run(respool *s, op *o, int (*run)(txn *t, op *o), bool durable);

/* How many records one commit of a long removal takes. A disk that is full has
   room for a small one, which gives back what the next needs. */
typedef struct pace {
  size_t page, most;
} pace;

/* After a run that came to `rc`: 0 when it may be tried again, slower. */
int pace_after(pace *p, int rc);

/* Runs a read. */
int store_read(respool *s, op *o, int (*run)(txn *t, op *o));

/* ---- batch.c --------------------------------------------------------------
   */

/* Extends holds of a batch; `*lost` counts those that were. */
int batch_extend_claims(respool_queue *q, int64_t lease, uint64_t token,
                     batch_claim *claims, size_t n, bool durable);

int batch_check(respool_batch *batch); /* 0, BUSY, or as store_check */

respool_batch *batch_new(respool_queue *q); /* NULL: out of memory */
void batch_destroy(respool_batch *batch); /* with nobody at work on it */

/* A ticket works on the batch from now on, or does not any more. */
void batch_engage(respool_batch *batch, respool_ticket *t);
void batch_disengage(respool_batch *batch);

/* The mark that an outcome makes, its words kept in the batch. */
int batch_make_mark(respool_batch *batch, size_t i, const respool_outcome *o,
                  mark *m);

/* After a settle with these marks: what is settled is not settled again, what
   is lost is not tried again. */
void batch_close_claims(respool_batch *batch, const mark *marks);

/* The claim that holds item `i`. */
const batch_claim *batch_claim_of(const respool_batch *batch, size_t i);

int batch_lost_error(const respool_queue *q, size_t lost); /* LEASE_LOST */

/* Room for the marks of a batch that was filled; in its transaction, so that
   nothing is leased for a batch that cannot be handed out. */
int batch_make_marks(respool_batch *batch);

/* Makes a batch that was filled ready to be marked; an empty one becomes NULL.
   On failure it is freed. */
int batch_ready(respool_batch **batch);

/* ---- settle.c ----------------------------------------------------------- */

/* Releases and frees a batch that nobody asks for any more; with the
   committer's lock held and its thread there. NULL is fine. */
void batch_abandon(respool_batch *batch);

/* ---- take.c ------------------------------------------------------------- */

int take_check(const respool_take_options *o);
claim_req take_request(respool_queue *q, const respool_take_options *o);

/* ---- queue.c ------------------------------------------------------------ */

int queue_check(const respool_queue *q); /* 0, or as store_check */

/* The list for notices of dead letters; NULL when nobody asks for them. */
notices *queue_notices(respool_queue *q);

/* ---- push.c ------------------------------------------------------------- */

int push_check(const respool *s, const respool_payload *items, size_t n,
               const respool_push_options *o);

/* Builds what a push stores; the batch is the caller's, also on failure. */
int push_build(const respool *s, const respool_payload *items, size_t n,
               const respool_push_options *o, builder *b);
append_req push_request(respool_queue *q, const builder *b,
                        const respool_payload *first,
                        const respool_push_options *o);

/* 0, or TOO_LARGE when the item is over max_queue_bytes by itself. Cheap for
   what is clearly below. */
int push_fits(respool_queue *q, const respool_payload *it,
              const respool_push_options *o);

#endif

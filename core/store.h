/* SPDX-License-Identifier: MIT */
/*
 * The handles behind the public verbs, and what the verbs share.
 */
#ifndef STORE_H
#define STORE_H

#include "clock.h"
#include "engine.h"
#include "random.h"

/* Leases that are renewed from a thread; see keeper.c. */
typedef struct keeper {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  const struct clock *clock;
  struct keep *list;
  int64_t wake_at; /* until when the thread sleeps, if nothing comes */
  pthread_t thread;
  bool started;  /* there is a thread to join */
  bool running;  /* and it has not left its loop */
  bool stopping;
} keeper;

struct respool {
  env *env;
  struct clock clock;
  struct random random;
  keeper keeper;
  bool durable; /* verbs return when their effect is on disk */
  uint64_t max_bytes, max_item_bytes;
  int pid;
};

struct respool_queue {
  respool *store;
  /* What the last wait for items learnt at `idle_seen`: nothing since commit
     `idle_at`, the next due at `idle_due`; and how often to look. Hints. */
  _Atomic uint64_t idle_at;
  _Atomic int64_t idle_seen, idle_due, idle_poll;
  char name[RESPOOL_NAME_MAX + 1];
};

/* 0, or what is wrong with the handle: FORKED in another process. */
int store_check(const respool *s);

/* 0, or INVALID: names have 1..255 bytes. `what` names the argument. */
int name_check(const char *name, const char *what);

/* Says "<what> must be <rule>" and returns INVALID. */
int invalid(const char *what, const char *rule);

#define LEASE_MAX ((int64_t)7 * 24 * 3600 * 1000)

/* Runs an operation on the store; durable when the store is. */
int store_run(respool *s, op *o, int (*run)(txn *t, op *o), bool durable);

/* Runs a read. */
int store_read(respool *s, op *o, int (*run)(txn *t, op *o));

/* ---- keeper.c ----------------------------------------------------------- */

void keeper_init(keeper *k, const struct clock *clock);
void keeper_stop(keeper *k); /* joins its thread, forgets what it kept */

/* Moves a manual clock on, renewing on the way. */
void keeper_advance(respool *s, int64_t ms);

/* ---- lot.c -------------------------------------------------------------- */

/* Extends holds of a lot; `*lost` counts those that were. */
int lot_extend_holds(respool_queue *q, int64_t lease, uint64_t token,
                     hold *holds, size_t n, bool durable);

respool_lot *lot_new(respool_queue *q); /* NULL: out of memory */

/* Makes a lot that was filled ready to be marked; an empty one becomes NULL.
   On failure it is freed. */
int lot_ready(respool_lot **lot);

/* ---- take.c ------------------------------------------------------------- */

int take_check(const respool_take_options *o);
claim_req take_request(const respool_take_options *o);

/* ---- queue.c ------------------------------------------------------------ */

int queue_check(const respool_queue *q); /* 0, or as store_check */

int push_check(const respool *s, const respool_payload *items, size_t n,
               const respool_push_options *o);

/* Builds what a push stores; the batch is the caller's, also on failure. */
int push_batch(const respool *s, const respool_payload *items, size_t n,
               const respool_push_options *o, batch *b);
append_req push_request(const respool *s, const batch *b,
                        const respool_push_options *o);

#endif

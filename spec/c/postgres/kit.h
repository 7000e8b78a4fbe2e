/* SPDX-License-Identifier: MIT */
/*
 * What the C specs and the benchmark of the server engine share: a store in a
 * schema of its own, and its verbs with few words. Each verb is one call;
 * what fails unexpectedly ends the program with a line.
 */
#ifndef POSTGRES_KIT_H
#define POSTGRES_KIT_H

#include "postgres/env/schema.h"
#include "postgres/record/marks.h"
#include "postgres/record/taken.h"

typedef struct kit {
  url url;
  _Atomic bool prepare;
  struct random chance;
  session s;
  int64_t wall; /* of a manual clock; 0: the server's */
  bool keep;    /* what is done goes to the history */
} kit;

/* A session on the schema; the first makes it. `location` is a URL without
   schema. */
void kit_open(kit *k, const char *location, const char *schema, bool make);
void kit_close(kit *k);

/* The clock that is moved by hand, or null; ends the program with a line. */
void kit_put_wall(const kit *k, values *v);
void kit_die(const char *what);

/* A policy in short; what is 0 is unlimited, or the default. */
typedef struct kit_policy {
  bool ordered, drop_expired;
  int overflow;
  int64_t max_crashes, ttl, max_items, max_bytes, keep_done, keep_done_bytes;
  int64_t keep_dead;
  const int *weights; /* priority, weight, ... */
  size_t n_weights;   /* numbers */
} kit_policy;

typedef struct kit_queue {
  int id, version;
} kit_queue;

/* Makes the queue or gives it another policy. */
kit_queue kit_queue_save(kit *k, const char *name, int seen,
                         const kit_policy *p);

typedef struct kit_push {
  int priority, on_conflict;
  int64_t delay, ttl; /* ttl 0: the queue's */
  int64_t attempts, dedup;
  const char *key;
  size_t body; /* bytes of each item; 0: 8 */
  size_t per_run; /* items; 0: as many as fit */
  bool no_call;
  uint64_t owner, token; /* a lease that it depends on */
} kit_push;

/* Pushes `n` items whose bodies begin with their ids; 0 or a code. */
int kit_push_items(kit *k, int queue, size_t n, const kit_push *o,
                   uint64_t *first);
extern _Thread_local pg_failure kit_why; /* of the last call that was refused */

#define KIT_RUNS 20000

typedef struct kit_run {
  taken t;          /* its bytes are not to be looked at */
  uint8_t bits[RUN_ITEMS / 8 + 1]; /* live ones */
} kit_run;

typedef struct kit_batch {
  taken_head head;
  kit_run *runs;
  size_t n_runs, n; /* items that were delivered */
  uint64_t *ids;    /* in their order */
  size_t damaged;
  int n_crashed, n_expired; /* runs to be buried */
  size_t cap_runs, cap_ids;
} kit_batch;

typedef struct kit_take {
  int64_t bytes, lease; /* 0: no bound; the queue's */
  marks *marks;         /* read and kept; or NULL */
  enum look how;
  int64_t late;         /* ms more that it takes, by what the marks are told */
} kit_take;

int kit_take_items(kit *k, int queue, int want, const kit_take *o,
                   kit_batch *b);
void kit_read_batch(const PGresult *r, kit_batch *b);
void kit_batch_free(kit_batch *b);

/* Of a batch: the runs, and how many items each has. */
void kit_put_runs(values *v, const kit_batch *b);

/* Of a settle, that all of a batch is done: the statement, and its parameters
   from the token on. */
enum statement kit_put_done(const kit *k, values *v, const kit_batch *b);

/* All of it is done, in one call; how many runs were lost. */
size_t kit_done(kit *k, int queue, const kit_batch *b);

/* An outcome a letter for each item, in the order of b->ids:
     d done, D dropped, x dead, r retried (all of a run after `wait`),
     p retried by itself after `wait`, l released, s snoozed, - still held
   Runs to be buried are. Answers 0 or a code. */
typedef struct kit_settle {
  const char *outcomes; /* NULL: only burials */
  int64_t wait;
  bool strict, keep;
  int policy;
  size_t lost;      /* out, runs */
  uint64_t number;  /* out, of the first dead letter */
} kit_settle;

int kit_settle_batch(kit *k, int queue, const kit_batch *b, kit_settle *o);

/* Without parameters and answer: one number of a query, in the schema. */
int64_t kit_number(kit *k, const char *sql);

/* Prints what v1_check finds, and how many lines that were. */
size_t kit_check(kit *k);

/* Any one statement: runs it, keeps the result in `r`. */
int kit_call(kit *k, request *r, values *v, enum statement s, bool changes);

#endif

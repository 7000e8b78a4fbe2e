/* SPDX-License-Identifier: MIT */
/*
 * Arguments of v1_settle: what becomes of the runs of a batch, the items that
 * go on by themselves, and dead letters. They are gathered first, by those
 * that settle and those that bury, and put into a request at once.
 */
#ifndef BURIAL_H
#define BURIAL_H

#include "postgres/queue/plan.h"
#include "record/dead/record.h"

enum settle_count {
  COUNT_DONE, COUNT_DROPPED, COUNT_DIED, COUNT_EXPIRED, COUNT_RELEASED,
  COUNT_RETRIED, COUNT_SNOOZED, SETTLE_COUNTS
};

/* A run, with its items after the settle. */
typedef struct run_fate {
  uint64_t first;
  uint32_t n;
  uint64_t live;       /* that stay in it; 0: it goes */
  const uint8_t *bits; /* which; NULL: all that were live */
  int64_t wait;        /* STAYS_LEASED, or ms until it is due */
  uint64_t attempts;
  uint64_t had;        /* attempts that this was worked out with */
  uint64_t had_live;   /* the same of live items */
  int64_t delay;
  respool_bytes history, memo;
  uint32_t counts[SETTLE_COUNTS];
  const uint8_t *kept; /* done items for the history; NULL: none */
} run_fate;

#define STAYS_LEASED (-1)

/* An item that waits by itself from now on. */
typedef struct parted {
  uint64_t run, id;
  int64_t wait, delay;
  uint64_t attempts;
  respool_bytes history, memo;
} parted;

typedef struct burial {
  uint64_t run;
  const char *dlq;
  int by; /* as death_number */
  uint64_t items;
  respool_bytes group, reason, record;
} burial;

typedef struct fates {
  pg_queue queue;
  uint64_t token;
  bool strict, tell; /* as v1_settle has them */
  bool recount;      /* attempts may have been given back since the take */
  bool cancels;      /* items may have been cancelled since the take */
  uint64_t damaged;
  notices *notices;
  arena memory;
  run_fate *runs;
  parted *parts;
  burial *dead;
  size_t n_runs, n_parts, n_dead, cap_runs, cap_parts, cap_dead;
  size_t request;
  int rc;
} fates;

void fates_init(fates *f, const pg_queue *q, uint64_t token);
void fates_free(fates *f);

/* All memory in them is the arena's, or the caller's until they are freed. */
run_fate *fates_add(fates *f, uint64_t first, uint32_t n); /* NULL: NOMEM */
void fates_part(fates *f, const parted *p);
void fates_bury(fates *f, uint64_t run, const char *name, const death *d,
                const respool_item *i, respool_bytes packed);

/* Bits for a run of n, none of them set; NULL: NOMEM. */
uint8_t *fates_bits(fates *f, uint32_t n);

void fates_plan(plan *p, fates *f);

/* Once it has happened: posts notices of dead letters, and returns the firsts
   of runs whose lease was lost, `*n` of them, in the plan's memory. */
const uint64_t *fates_end(plan *p, fates *f, size_t *n);

/* Buries in a call of its own; for what a take has found. */
int fates_run(pg_env *e, session *l, int64_t now, const char *name, fates *f,
              size_t *lost);

#endif

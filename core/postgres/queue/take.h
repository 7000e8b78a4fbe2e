/* SPDX-License-Identifier: MIT */
/*
 * Take, and the extension of leases. Items that a take finds expired,
 * crashed too often or damaged are leased to it too, and become dead letters in
 * a call that follows.
 */
#ifndef POSTGRES_TAKE_H
#define POSTGRES_TAKE_H

#include "postgres/queue/plan.h"

typedef struct taking {
  const char *name; /* of the queue */
  claim_req *r;
  pg_queue queue;
  enum look how;
  int64_t sent;     /* by the monotonic clock */
  size_t request;
} taking;

int take_plan(plan *p, taking *k, const char *name, claim_req *r);

/* Once the plan has happened: fills the batch, and buries. */
int take_end(plan *p, taking *k);

/* Ends up to `max_runs` runs that have expired, with `id` (0: any) only the
   one that holds it; `*ended` items, `*runs` runs. */
int take_expired(pg_env *e, session *l, int64_t now, const char *name,
                 int max_runs, uint64_t id, notices *noted,
                 uint64_t *ended, size_t *runs);

typedef struct extending {
  extend_req *r;
  size_t request;
} extending;

int extend_plan(plan *p, extending *x, const char *name, extend_req *r);
void extend_end(plan *p, extending *x);

#endif

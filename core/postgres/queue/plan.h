/* SPDX-License-Identifier: MIT */
/*
 * A plan: the requests of one call, made step by step. Memory that it needs
 * until it is over lies in its arena. Errors are sticky and come out when it
 * is run.
 */
#ifndef PLAN_H
#define PLAN_H

#include "base/arena.h"
#include "postgres/env/env.h"
#include "postgres/env/known.h"

typedef struct plan {
  pg_env *e;
  session *l;
  int64_t now; /* of the unit that is being added; or SERVER_TIME */
  int slot;    /* of counters */
  arena memory;
  request *requests;
  size_t n, cap;
  int notes;   /* requests that note an answer */
  size_t read; /* of the noted answers, once the call was resolved */
  call call;
  notice *notices;
  int rc;
} plan;

#define NO_REQUEST SIZE_MAX

void plan_init(plan *p, pg_env *e, session *l);
void plan_free(plan *p);

/* Adds a request, whose values are to be filled; `*at` (may be NULL) is its
   place. */
values *plan_add(plan *p, enum statement s, size_t *at);

/* Values that many functions begin with: queue and slot; the clock, moved by
   hand; the call's id with the number of the step, for what notes an
   answer. */
void plan_put_queue(plan *p, values *v, int queue);
void plan_put_wall(const plan *p, values *v);
void plan_put_call(plan *p, values *v);

/* Memory until the plan is freed; NULL with the error set. */
void *plan_alloc(plan *p, size_t n);

/* Runs it as one transaction; `relaxed`: it need not wait for the disk. */
int plan_run(plan *p, bool relaxed);

/* The answer of a request; NULL where it was lost, as the connection broke and
   the call was resolved: what it has noted is read by plan_noted, in the order
   of the requests, each number once. */
const PGresult *plan_answer(const plan *p, size_t at);
int64_t plan_noted(plan *p);

#endif

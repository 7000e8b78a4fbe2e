/* SPDX-License-Identifier: MIT */
/*
 * A look: one query on its way to the server. It is one statement, so one
 * snapshot; the functions of this room add the statement, run it and read its
 * rows.
 */
#ifndef QUERIES_LOOKING_H
#define QUERIES_LOOKING_H

#include "engine.h"
#include "postgres/queue/plan.h"

typedef struct looking {
  pg_env *e;
  session *l;
  query *q;
  pg_queue queue; /* for a query of a queue */
  plan p;
} looking;

/* Adds the statement, whose values are to be filled. */
static inline values *look_ask(looking *k, enum statement s) {
  return plan_add(&k->p, s, NULL);
}

static inline int look_run(looking *k) {
  return plan_run(&k->p, false);
}

static inline const PGresult *look_answer(const looking *k) {
  return plan_answer(&k->p, 0);
}

static inline int look_rows(const looking *k) {
  return pq.ntuples(look_answer(k));
}

#endif

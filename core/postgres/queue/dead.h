/* SPDX-License-Identifier: MIT */
/*
 * Steps on dead letters. Each is a call of its own, or part of a transaction's.
 */
#ifndef POSTGRES_DEAD_H
#define POSTGRES_DEAD_H

#include "postgres/queue/append.h"

typedef struct removing {
  dead_remove_req *r;
  size_t request;
} removing;

void dead_remove_plan(plan *p, removing *w, const char *dlq,
                      dead_remove_req *r);
void dead_remove_end(plan *p, removing *w);

int pg_dead_purge(pg_env *e, session *l, const char *dlq, dead_purge_req *r);

/* A move of dead letters back to queues: they are read, by a call before, and
   removed, in the transaction that pushes their items. */
typedef struct dead_move {
  move_req *r;
  struct moved_run *runs; /* pushes */
  size_t n_runs, cap_runs, request;
  uint64_t *found;        /* numbers */
  size_t n_found;
  arena memory;
  uint64_t *dying;        /* first dead letters of runs that a full queue has
                             no room for and buries; kept over all tries */
  size_t n_dying, cap_dying;
} dead_move;

int dead_move_plan(plan *p, dead_move *m, move_req *r);
void dead_move_end(plan *p, dead_move *m);
void dead_move_undo(plan *p, dead_move *m);

/* A queue has no room for the push that is request `at`: true if the move may
   be planned anew, as the queue buries what it has no room for. */
bool dead_move_refused(const plan *p, dead_move *m, size_t at);
void dead_move_free(dead_move *m);

/* The queue whose push is this request; NULL: it is none. */
const char *dead_move_target(const dead_move *m, size_t at);

/* The transaction was refused: may it be planned anew, as dead letters were
   taken away or keys given to others meanwhile? */
bool dead_move_passes(const plan *p, const dead_move *m);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * A step on its way: what it asks for in a plan, and what it makes of the
 * answers. Steps that cannot be part of a plan are calls of their own.
 */
#ifndef WORK_H
#define WORK_H

#include "postgres/queue/append.h"
#include "postgres/queue/dead.h"
#include "postgres/queue/records.h"
#include "postgres/queue/settle.h"
#include "postgres/queue/take.h"

typedef struct work {
  unit *unit;
  step *step;
  size_t from, to;     /* its requests */
  int tries;           /* at ending expired items */
  append_req *list[1]; /* of an append that is not merged with others */
  union {
    appending append;
    taking take;
    settling settle;
    extending extend;
    removing remove;
    dead_move move;
  };
} work;

/* Can the step be planned? Can units of such steps share a transaction? */
bool work_is_planned(const step *s);
bool work_is_shared(const step *s);

/* Begins a step of a unit; not of steps that are not planned. */
void work_begin(work *w, unit *u, step *s);

/* Adds its requests, anew with each try; what it is refused by at once. */
int work_plan(plan *p, work *w);

/* The plan was refused by the server: gives ids back. In reverse order. */
void work_undo(plan *p, work *w);

/* Once the plan has happened. */
int work_end(plan *p, work *w);
void work_free(work *w);

/* The consequence of a refusal: 0 to plan again, else the code. */
int work_refused(plan *p, work *w, int rc);

/* A step that is not planned, in calls of its own. */
int work_call(pg_env *e, unit *u);

#endif

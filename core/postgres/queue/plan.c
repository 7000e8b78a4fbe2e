/* SPDX-License-Identifier: MIT */
#include "postgres/queue/plan.h"

#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/clock.h"
#include "base/histogram.h"

void plan_init(plan *p, pg_env *e, session *l) {
  memset(p, 0, sizeof *p);
  p->e = e;
  p->l = l;
  p->now = SERVER_TIME;
  p->slot = session_slot(l);
  arena_init(&p->memory);
}

void plan_free(plan *p) {
  for (size_t i = 0; i < p->n; i++) values_free(p->requests[i].values);
  p->call.requests = p->requests;
  p->call.n = p->n;
  call_clear(&p->call);
  free(p->requests);
  notices_drop(p->notices);
  arena_free(&p->memory);
}

void *plan_alloc(plan *p, size_t n) {
  void *memory = arena_alloc(&p->memory, n ? n : 1);
  if (!memory) p->rc = RESPOOL_NOMEM;
  return memory;
}

values *plan_add(plan *p, enum statement s, size_t *at) {
  static _Thread_local values nowhere; /* after an error */
  values *v = plan_alloc(p, sizeof *v);
  if (!v || !array_grow(&p->requests, p->n, 1, &p->cap, sizeof *p->requests)) {
    p->rc = RESPOOL_NOMEM;
    values_free(&nowhere);
    return &nowhere;
  }
  values_init(v);
  if (at) *at = p->n;
  p->requests[p->n++] = (request){.statement = s, .values = v};
  return v;
}

void plan_put_queue(plan *p, values *v, int queue) {
  put_int4(v, queue);
  put_int4(v, p->slot);
}

void plan_put_wall(const plan *p, values *v) {
  if (p->now == SERVER_TIME)
    put_null(v);
  else
    put_int8(v, p->now);
}

void plan_put_call(plan *p, values *v) {
  call_put(&p->call, v, !p->notes++);
}

int plan_run(plan *p, bool relaxed) {
  if (p->rc) return fail(p->rc, "%s", respool_strerror(p->rc));
  if (!p->n) return 0;
  p->call.requests = p->requests;
  p->call.n = p->n;
  p->call.relaxed = relaxed;
  return call_run(p->l, &p->call);
}

const PGresult *plan_answer(const plan *p, size_t at) {
  return p->requests[at].result;
}

int64_t plan_noted(plan *p) {
  return p->read < p->call.n_answer ? p->call.answer[p->read++] : 0;
}

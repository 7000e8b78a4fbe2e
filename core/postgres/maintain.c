/* SPDX-License-Identifier: MIT */
#include "postgres/maintain.h"

#include "postgres/env/env.h"

#define PAGE 10000

/* Forgets a page of old calls. */
static int forget(session *l, int64_t *n) {
  values v;
  request r = {.statement = STATEMENT_FORGET_CALLS, .values = &v};
  call k = {.requests = &r, .n = 1};
  values_init(&v);
  put_int4(&v, PAGE);
  int rc = call_run(l, &k);
  *n = rc ? 0 : value_int(r.result, 0, 0);
  call_clear(&k);
  values_free(&v);
  return rc;
}

int pg_maintain(env *base, respool_maintenance *out) {
  pg_env *e = (pg_env *)base;
  int64_t n = PAGE;
  int rc = 0;
  (void)out; /* these are no records of the user's */
  session *l = pg_session_take(e);
  if (!l) return fail(RESPOOL_NOMEM, "not enough memory");
  while (!rc && n == PAGE) rc = forget(l, &n);
  pg_session_give(e, l);
  return rc;
}

/* SPDX-License-Identifier: MIT */
/*
 * Maintenance: the work that a store needs now and then, and a probe of
 * the storage.
 */
#include "verbs/store/reports.h"

#include <string.h>

/* ---- maintenance -------------------------------------------------------- */

static void add_maintenance(respool_maintenance *to,
                            const respool_maintenance *from) {
  to->expired += from->expired;
  to->dead_letters += from->dead_letters;
  to->history += from->history;
  to->windows += from->windows;
}

typedef struct round {
  respool *s;
  int64_t end; /* by the monotonic clock */
  respool_maintenance *out;
} round;

static int maintain_queue(void *arg, const char *name) {
  round *r = arg;
  commit_size size = {REMOVAL_PAGE, REMOVAL_PAGE};
  step p = {.kind = STEP_MAINTAIN, .name = name,
            .maintain.notices = store_notices(r->s)};
  int rc = 0;
  for (bool more = true; more && !rc;) {
    if (clock_mono() >= r->end) {
      r->out->more = 1;
      return 0;
    }
    p.maintain.limit = size.page;
    rc = store_commit_step(r->s, &p, true);
    if (!rc) {
      add_maintenance(r->out, &p.maintain.out);
      more = p.maintain.out.more;
    }
    rc = adjust_commit_size(&size, rc);
  }
  return rc == RESPOOL_NOT_FOUND ? 0 : rc; /* dropped meanwhile? */
}

int respool_maintain(respool *s, int64_t ms, respool_maintenance *out) {
  int rc = store_check(s);
  if (!rc) rc = SIZE_CHECK(out, RESPOOL_MAINTENANCE_INIT);
  if (!rc && ms < 0) rc = invalid("ms", "0 or more");
  if (rc) return rc;
  const engine *g = s->env->engine;
  round r = {s, ms ? time_after(clock_mono(), ms) : INT64_MAX, out};
  out->more = 0;
  rc = respool_queues(s, maintain_queue, &r);
  if (!rc) rc = reports_sweep(s);
  return rc || !g->maintain ? rc : g->maintain(s->env, out);
}

/* ---- probing ------------------------------------------------------------ */

/* Others may have probed since, so the number read may be a later one. */
int respool_probe(respool *s, uint64_t *write_us, uint64_t *read_us) {
  step written = {.kind = STEP_PROBE};
  query seen = {.kind = QUERY_PROBE};
  int rc = store_check(s);
  if (rc) return rc;
  uint64_t from = respool_mono();
  if (write_us) rc = store_commit_step(s, &written, true);
  if (!rc && write_us) rc = respool_flush(s);
  uint64_t between = respool_mono();
  if (!rc) rc = store_look(s, &seen);
  if (!rc && seen.number < written.probe)
    rc = fail(RESPOOL_CORRUPT, "the storage returned other data than was "
              "written");
  if (rc) return rc;
  if (write_us) *write_us = between - from;
  *read_us = respool_mono() - between;
  return 0;
}

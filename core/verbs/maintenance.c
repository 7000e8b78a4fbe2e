/* SPDX-License-Identifier: MIT */
/*
 * Care: what has to be done now and then to a store, the history of finished
 * items, a probe of the storage, and compaction.
 */
#include "verbs/store.h"

#include <stdlib.h>
#include <string.h>

/* ---- history ------------------------------------------------------------ */

typedef struct past_op {
  op op;
  respool_queue *q;
  respool_moment at;
  size_t limit;
  respool_page *page;
} past_op;

static int run_history(txn *t, op *o) {
  past_op *p = (past_op *)o;
  return engine_lmdb.history(t, p->q->name, &p->at, p->limit, p->page);
}

int respool_history(respool_queue *q, respool_moment *at, size_t limit,
                    respool_page **out) {
  past_op p = {.q = q, .limit = limit};
  int rc = queue_check(q);
  if (!rc && limit == 0) rc = invalid("limit", "at least 1");
  if (rc) return rc;
  p.at = *at;
  p.page = malloc(sizeof *p.page);
  if (!p.page) return fail(RESPOOL_NOMEM, "not enough memory for a page");
  page_init(p.page);
  rc = store_read(q->store, &p.op, run_history);
  if (rc) {
    respool_page_free(p.page);
    return rc;
  }
  *at = p.at;
  *out = p.page;
  return 0;
}

/* ---- maintenance -------------------------------------------------------- */

typedef struct maintenance_op {
  op op;
  respool *s;
  const char *name;
  pace pace;
  respool_maintenance out; /* of this run */
} maintenance_op;

static int run_maintain(txn *t, op *o) {
  maintenance_op *c = (maintenance_op *)o;
  memset(&c->out, 0, sizeof c->out);
  return engine_lmdb.maintenance(t, c->name, respool_now(c->s), c->pace.page,
                          &c->out);
}

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
  maintenance_op c =
      {.s = r->s, .name = name, .pace = {REMOVAL_PAGE, REMOVAL_PAGE}};
  int rc = 0;
  for (bool more = true; more && !rc;) {
    if (clock_mono() >= r->end) {
      r->out->more = 1;
      return 0;
    }
    rc = store_run(r->s, &c.op, run_maintain, true);
    if (!rc) {
      add_maintenance(r->out, &c.out);
      more = c.out.more;
    }
    rc = pace_after(&c.pace, rc);
  }
  return rc == RESPOOL_NOT_FOUND ? 0 : rc; /* dropped meanwhile? */
}

int respool_maintain(respool *s, int64_t ms, respool_maintenance *out) {
  int rc = store_check(s);
  if (!rc && out->size != sizeof *out) rc = invalid("size", "set by _INIT");
  if (!rc && ms < 0) rc = invalid("ms", "0 or more");
  if (rc) return rc;
  round r = {s, ms ? clock_mono() + ms : INT64_MAX, out};
  out->more = 0;
  rc = respool_queues(s, maintain_queue, &r);
  return rc ? rc : engine_lmdb.free_readers(s->env, out);
}

/* ---- repair ------------------------------------------------------------- */

int respool_repair(const char *from, const char *to, respool_finding_fn each,
                   void *arg, respool_salvage *out) {
  if (!from || !*from) return invalid("from", "a directory's name");
  if (!to || !*to || !strcmp(to, ":memory:"))
    return invalid("to", "a directory's name");
  if (!out || out->size != sizeof *out)
    return invalid("out->size", "set by _INIT");
  respool_salvage counts = RESPOOL_SALVAGE_INIT;
  int rc = engine_lmdb.repair(from, to, each, arg, &counts);
  if (!rc) *out = counts;
  return rc;
}

/* ---- probing ------------------------------------------------------------ */

typedef struct probe_op {
  op op;
  uint64_t number;
} probe_op;

static int run_probe_write(txn *t, op *o) {
  return engine_lmdb.probe_write(t, &((probe_op *)o)->number);
}

static int run_probe_read(txn *t, op *o) {
  return engine_lmdb.probe_read(t, &((probe_op *)o)->number);
}

/* Others may have probed since, so the number read may be a later one. */
int respool_probe(respool *s, uint64_t *write_us, uint64_t *read_us) {
  probe_op written = {.number = 0}, seen = {.number = 0};
  int rc = store_check(s);
  if (rc) return rc;
  uint64_t from = respool_mono();
  if (write_us) rc = store_run(s, &written.op, run_probe_write, true);
  if (!rc && write_us) rc = respool_flush(s);
  uint64_t between = respool_mono();
  if (!rc) rc = store_read(s, &seen.op, run_probe_read);
  if (!rc && seen.number < written.number)
    rc = fail(RESPOOL_CORRUPT, "what was written is not what was read");
  if (rc) return rc;
  if (write_us) *write_us = between - from;
  *read_us = respool_mono() - between;
  return 0;
}

/* ---- compaction --------------------------------------------------------- */

int respool_compact(const char *path, const char *to,
                    respool_compaction *out) {
  if (!path || !*path || !strcmp(path, ":memory:"))
    return invalid("path", "a directory's name");
  if (to && (!*to || !strcmp(to, ":memory:")))
    return invalid("to", "a directory's name");
  if (out->size != sizeof *out) return invalid("size", "set by _INIT");
  return engine_lmdb.compact(path, to, out);
}

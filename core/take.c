/* SPDX-License-Identifier: MIT */
/*
 * Taking, and waiting for something to take.
 */
#include "store.h"

#define POLL_MIN 1  /* ms between looks for other processes' pushes */
#define POLL_MAX 50

/* ---- once --------------------------------------------------------------- */

typedef struct take_op {
  op op;
  respool_queue *q;
  claim_req req;
  respool_lot *lot;
} take_op;

static int run_take(txn *t, op *o) {
  take_op *p = (take_op *)o;
  return engine_lmdb.claim(t, p->q->name, respool_now(p->q->store), &p->req,
                           p->lot);
}

int take_check(const respool_take_options *o) {
  if (o->size != sizeof *o) return invalid("options.size", "set by _INIT");
  if (o->wait < 0) return invalid("wait", "0 or more");
  if (o->lease != RESPOOL_KEEP && o->lease < 1)
    return invalid("lease", "positive");
  return 0;
}

claim_req take_request(const respool_take_options *o) {
  return (claim_req){.items = o->items ? o->items : 1, .bytes = o->bytes,
                     .lease = o->lease};
}

/* One take; `*lot` is NULL when there was nothing. A lost take is a lease
   that runs out, so it need not wait for the disk. */
static int take_once(respool_queue *q, const respool_take_options *o,
                     respool_lot **lot) {
  take_op p = {.q = q, .req = take_request(o)};
  int rc;
  p.lot = lot_new(q);
  if (!p.lot) return fail(RESPOOL_NOMEM, "not enough memory for a lot");
  do
    rc = store_run(q->store, &p.op, run_take, false);
  while (!rc && p.req.more && p.lot->page.n == 0);
  if (!rc) rc = lot_ready(&p.lot);
  if (rc)
    respool_lot_free(p.lot);
  else
    *lot = p.lot;
  return rc;
}

/* ---- waiting ------------------------------------------------------------ */

typedef struct look_op {
  op op;
  respool_queue *q;
  int64_t now;
  outlook out;
} look_op;

static int run_outlook(txn *t, op *o) {
  look_op *p = (look_op *)o;
  return engine_lmdb.outlook(t, p->q->name, p->now, &p->out);
}

/* Takes if there is anything to take; a look costs no transaction that
   others would wait for. `*due` says how long until something is. */
static int try_take(respool_queue *q, const respool_take_options *o,
                    respool_lot **lot, int64_t *due) {
  look_op p = {.q = q, .now = respool_now(q->store)};
  *lot = NULL;
  *due = INT64_MAX;
  int rc = store_read(q->store, &p.op, run_outlook);
  if (rc) return rc;
  if (p.out.next_due) *due = p.out.next_due - p.now;
  return p.out.ready ? take_once(q, o, lot) : 0;
}

static int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}

/* With a manual clock nothing comes by itself but what is due: a wait moves
   the clock there, or to its own end. */
static int take_manual(respool_queue *q, const respool_take_options *o,
                       respool_lot **lot) {
  int64_t left = o->wait, due;
  int rc = try_take(q, o, lot, &due);
  while (!rc && !*lot && left > 0) {
    int64_t step = due > 0 ? least(left, due) : left;
    keeper_advance(q->store, step);
    left -= step;
    rc = try_take(q, o, lot, &due);
  }
  return rc;
}

/* Woken by commits of this process; those of others show in the number of
   the last transaction, looked at from time to time. */
static int take_waiting(respool_queue *q, const respool_take_options *o,
                        respool_lot **lot) {
  env *e = q->store->env;
  int64_t end = clock_mono(), poll = POLL_MIN, due;
  end = o->wait > INT64_MAX - end ? INT64_MAX : end + o->wait;
  for (bool idle = false;; idle = true) {
    uint64_t seen = commit_version(e), last = e->engine->last_txn(e);
    int rc = try_take(q, o, lot, &due);
    int64_t left = end - clock_mono();
    if (rc || *lot || left <= 0) return rc;
    if (!idle && q->store->durable) rc = commit_flush(e);
    if (rc) return rc;
    commit_wait(e, seen, least(least(left, poll), due < 1 ? 1 : due));
    bool news = commit_version(e) != seen || e->engine->last_txn(e) != last;
    poll = news ? POLL_MIN : least(poll * 2, POLL_MAX);
  }
}

int respool_take(respool_queue *q, const respool_take_options *o,
                 respool_lot **lot) {
  static const respool_take_options defaults = RESPOOL_TAKE_OPTIONS_INIT;
  respool_lot *taken = NULL;
  int64_t due;
  if (!o) o = &defaults;
  int rc = queue_check(q);
  if (!rc) rc = take_check(o);
  if (rc) return rc;
  if (q->store->clock.manual)
    rc = take_manual(q, o, &taken);
  else if (o->wait > 0)
    rc = take_waiting(q, o, &taken);
  else
    rc = try_take(q, o, &taken, &due);
  if (!rc) *lot = taken;
  return rc;
}

/* SPDX-License-Identifier: MIT */
/*
 * Taking, and waiting for something to take.
 */
#include "verbs/store.h"

#define POLL_MIN 1  /* ms between looks for other processes' pushes */
#define POLL_MAX 50
#define LOOK_AGAIN 1000 /* ms after which to look anyway: clocks may step */

/* ---- once --------------------------------------------------------------- */

typedef struct take_op {
  op op;
  respool_queue *q;
  claim_req req;
  respool_batch *batch;
} take_op;

static int run_take(txn *t, op *o) {
  take_op *p = (take_op *)o;
  int rc = engine_lmdb.claim(t, p->q->name, respool_now(p->q->store),
                             &p->req, p->batch);
  return rc ? rc : batch_make_marks(p->batch);
}

int take_check(const respool_take_options *o) {
  if (o->size != sizeof *o) return invalid("options.size", "set by _INIT");
  if (o->wait < 0) return invalid("wait", "0 or more");
  if (o->lease != RESPOOL_KEEP && (o->lease < 1 || o->lease > LEASE_MAX))
    return invalid("lease", "1 ms to 7 days");
  return 0;
}

claim_req take_request(respool_queue *q, const respool_take_options *o) {
  return (claim_req){.items = o->items ? o->items : 1, .bytes = o->bytes,
                     .lease = o->lease, .notices = queue_notices(q)};
}

/* One take; `*batch` is NULL when there was nothing. A lost take is a lease
   that runs out, so it need not wait for the disk. */
static int take_once(respool_queue *q, const respool_take_options *o,
                     respool_batch **batch) {
  take_op p = {.q = q, .req = take_request(q, o)};
  int rc;
  p.batch = batch_new(q);
  if (!p.batch) return fail(RESPOOL_NOMEM, "not enough memory for a batch");
  do {
    rc = store_run(q->store, &p.op, run_take, false);
  } while (!rc && p.req.more && p.batch->page.n == 0);
  if (!rc) rc = batch_ready(&p.batch);
  if (rc)
    respool_batch_free(p.batch);
  else
    *batch = p.batch;
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
                    respool_batch **batch, int64_t *due) {
  look_op p = {.q = q, .now = respool_now(q->store)};
  *batch = NULL;
  *due = INT64_MAX;
  int rc = store_read(q->store, &p.op, run_outlook);
  if (rc) return rc;
  if (p.out.next_due) *due = p.out.next_due - p.now;
  return p.out.ready ? take_once(q, o, batch) : 0;
}

static int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}

/* With a manual clock nothing comes by itself but what is due: a wait moves
   the clock there, or to its own end. An endless wait for nothing ends. */
static int take_manual(respool_queue *q, const respool_take_options *o,
                       respool_batch **batch) {
  int64_t left = o->wait, due;
  int rc = try_take(q, o, batch, &due);
  while (!rc && !*batch && left > 0) {
    if (left == RESPOOL_UNLIMITED && due == INT64_MAX) break;
    int64_t step = due > 0 ? least(left, due) : left;
    timers_advance(&q->store->timers, &q->store->clock, step);
    left -= step;
    rc = try_take(q, o, batch, &due);
  }
  return rc;
}

/* Whether an earlier wait has seen all there is: nothing was committed since
   and nothing has become due. */
static bool seen_idle(respool_queue *q, uint64_t last) {
  return q->idle_at == last && respool_now(q->store) < q->idle_due &&
         clock_mono() - q->idle_seen < LOOK_AGAIN;
}

static void note_idle(respool_queue *q, uint64_t last, int64_t due) {
  int64_t now = respool_now(q->store);
  if (q->idle_at != last) q->idle_poll = POLL_MIN;
  q->idle_due = due > INT64_MAX - now ? INT64_MAX : now + due;
  q->idle_seen = clock_mono();
  q->idle_at = last;
}

/* Sleeps until a commit of this process, or for a step; those of others show
   in the number of the last transaction, looked at between steps. */
static void wait_step(respool_queue *q, uint64_t seen, int64_t left) {
  int64_t due = q->idle_due - respool_now(q->store);
  int64_t poll = q->idle_poll;
  int64_t step = least(least(left, poll), due < 1 ? 1 : due);
  commit_wait(q->store->env, seen, step);
  q->idle_poll = least(poll * 2, POLL_MAX);
}

static int64_t wait_end(int64_t wait) {
  int64_t now = clock_mono();
  return wait > INT64_MAX - now ? INT64_MAX : now + wait;
}

static int take_waiting(respool_queue *q, const respool_take_options *o,
                        respool_batch **batch) {
  env *e = q->store->env;
  int64_t end = wait_end(o->wait), due;
  for (;;) {
    uint64_t seen = commit_version(e), last = e->engine->last_txn(e);
    if (!seen_idle(q, last)) {
      int rc = try_take(q, o, batch, &due);
      if (rc || *batch) return rc;
      if (q->store->durable) rc = commit_flush(e);
      if (rc) return rc;
      note_idle(q, last, due);
    }
    int64_t left = end - clock_mono();
    if (left <= 0) return 0;
    wait_step(q, seen, left);
  }
}

int respool_take(respool_queue *q, const respool_take_options *o,
                 respool_batch **batch) {
  static const respool_take_options defaults = RESPOOL_TAKE_OPTIONS_INIT;
  respool_batch *taken = NULL;
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
  if (!rc) *batch = taken;
  return rc;
}

/* ---- by ticket ---------------------------------------------------------- */

typedef struct take_ticket {
  take_op take;
  int64_t end; /* of the wait, by the monotonic clock */
} take_ticket;

/* 0 and whether there is anything to take; looks only when something may
   have changed. */
static int any_ready(respool_queue *q, bool *ready) {
  look_op p = {.q = q, .now = respool_now(q->store)};
  uint64_t last = q->store->env->engine->last_txn(q->store->env);
  *ready = false;
  if (seen_idle(q, last)) return 0;
  int rc = store_read(q->store, &p.op, run_outlook);
  if (rc) return rc;
  *ready = p.out.ready;
  if (!p.out.ready)
    note_idle(q, last, p.out.next_due ? p.out.next_due - p.now : INT64_MAX);
  return 0;
}

static bool take_again(respool_ticket *t) {
  const take_op *p = (take_op *)t->op;
  return !p->op.rc && p->req.more && p->batch->page.n == 0;
}

static int start_take(respool_ticket *t) {
  take_op *p = (take_op *)t->op;
  if (!p->batch) p->batch = batch_new(p->q);
  if (!p->batch) return fail(RESPOOL_NOMEM, "not enough memory for a batch");
  return ticket_start(t, run_take, false);
}

static void look_take(respool_ticket *t) {
  const take_ticket *p = (take_ticket *)t->op;
  bool ready;
  int rc = any_ready(p->take.q, &ready);
  if (!rc && ready) rc = start_take(t);
  if (rc || (!ready && clock_mono() >= p->end)) ticket_answer(t, rc);
}

static int finish_take(respool_ticket *t, respool_result *out) {
  take_op *p = (take_op *)t->op;
  int rc = batch_ready(&p->batch);
  if (rc) return rc;
  out->batch = p->batch;
  p->batch = NULL;
  return 0;
}

static void dispose_take(respool_ticket *t) {
  take_op *p = (take_op *)t->op;
  if (t->running && !p->op.rc)
    batch_abandon(p->batch);
  else
    respool_batch_free(p->batch);
}

int respool_take_start(respool_queue *q, const respool_take_options *o,
                       respool_ticket **out) {
  static const respool_take_options defaults = RESPOOL_TAKE_OPTIONS_INIT;
  if (!o) o = &defaults;
  int rc = queue_check(q);
  if (!rc) rc = take_check(o);
  if (!rc && o->wait && q->store->clock.manual)
    rc = invalid("wait", "0 with a ticket and a manual clock");
  if (rc) return rc;
  respool_ticket *t = ticket_new(q->store, sizeof(take_ticket));
  if (!t) return RESPOOL_NOMEM;
  take_ticket *p = (take_ticket *)t->op;
  p->take.q = q;
  p->take.req = take_request(q, o);
  p->end = wait_end(o->wait);
  t->look = look_take;
  t->again = take_again;
  t->finish = finish_take;
  t->dispose = dispose_take;
  rc = ticket_pin(t, q);
  if (rc) {
    ticket_drop(t);
    return rc;
  }
  look_take(t);
  *out = t;
  return 0;
}

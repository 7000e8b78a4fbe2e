/* SPDX-License-Identifier: MIT */
/*
 * Taking, and waiting for something to take.
 */
#include "verbs/consume/settle.h"

#define LOOK_AGAIN 1000 /* ms after which to look anyway: clocks may step */

static const respool_take_options defaults = RESPOOL_TAKE_OPTIONS_INIT;

/* ---- once --------------------------------------------------------------- */

/* Whether a take has to go on: there may be more than it has looked at. */
static bool goes_on(const claim_req *r) {
  return r->more && r->batch->page.n == 0;
}

/* One take; `*out` is NULL when there was nothing, and `*due` then says how
   long until there may be. A lost take is a lease that runs out, so it need
   not wait for the disk. */
static int take_once(respool_queue *q, const respool_take_options *o,
                     respool_batch **out, int64_t *due) {
  respool_batch *batch = batch_new(q);
  if (!batch) return RESPOOL_NOMEM;
  step p = take_step(o, batch);
  int rc;
  do {
    rc = store_commit_step(q->store, &p, false);
  } while (!rc && goes_on(&p.claim));
  if (rc) {
    respool_batch_free(batch);
    return rc;
  }
  *due = p.claim.due_in;
  rc = batch_ready(&batch, true);
  q->busy = batch != NULL;
  if (!rc) *out = batch;
  return rc;
}

/* ---- waiting ------------------------------------------------------------ */

/* Takes if there is anything to take; a look costs no commit that others
   would wait for. After a take that brought items there are likely more. */
static int try_take(respool_queue *q, const respool_take_options *o,
                    respool_batch **batch, int64_t *due) {
  query look = {.kind = QUERY_OUTLOOK, .name = q->name};
  *batch = NULL;
  *due = INT64_MAX;
  if (q->busy) return take_once(q, o, batch, due);
  int rc = store_look(q->store, &look);
  if (rc) return rc;
  if (look.outlook.ready) return take_once(q, o, batch, due);
  *due = look.outlook.due_in;
  return 0;
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
    int64_t ms = due > 0 ? least(left, due) : left;
    timers_advance(&q->store->timers, &q->store->clock, ms);
    left -= ms;
    rc = try_take(q, o, batch, &due);
  }
  return rc;
}

/* The engine's count of commits, which its wait compares. */
static int see(respool_queue *q, uint64_t *seen) {
  env *e = q->store->env;
  *seen = 0;
  return e->engine->wait(e, q->name, WAIT_ITEMS, seen, 0);
}

/* Whether an earlier look has seen all there is: nothing was committed since
   and nothing has become due. */
static bool is_idle(respool_queue *q, uint64_t seen) {
  return q->idle.seen == seen && respool_now(q->store) < q->idle.due &&
         clock_mono() - q->idle.looked < LOOK_AGAIN;
}

static void note_idle(respool_queue *q, uint64_t seen, int64_t due) {
  q->idle.due = time_after(respool_now(q->store), due);
  q->idle.looked = clock_mono();
  q->idle.seen = seen;
}

/* Until a commit, or until something is due. */
static int wait_for_items(respool_queue *q, uint64_t seen, int64_t left) {
  env *e = q->store->env;
  int64_t due = q->idle.due - respool_now(q->store);
  int64_t ms = least(least(left, LOOK_AGAIN), due < 1 ? 1 : due);
  return e->engine->wait(e, q->name, WAIT_ITEMS, &seen, ms);
}

static int take_waiting(respool_queue *q, const respool_take_options *o,
                        respool_batch **batch) {
  int64_t end = time_after(clock_mono(), o->wait), due, left;
  do {
    uint64_t seen;
    int rc = see(q, &seen);
    if (!rc && !is_idle(q, seen)) {
      rc = try_take(q, o, batch, &due);
      if (rc || *batch) return rc;
      if (q->store->durable) rc = store_flush(q->store);
      note_idle(q, seen, due);
    }
    left = end - clock_mono();
    if (!rc && left > 0) rc = wait_for_items(q, seen, left);
    if (rc) return rc;
  } while (left > 0);
  return 0;
}

int respool_take(respool_queue *q, const respool_take_options *o,
                 respool_batch **batch) {
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
  unit unit;
  step step;
  respool_queue *queue;
  respool_take_options options;
  int64_t end; /* of the wait, by the monotonic clock */
} take_ticket;

/* 0 and whether there is anything to take; looks only when something may
   have changed. */
static int any_ready(respool_queue *q, bool *ready) {
  query look = {.kind = QUERY_OUTLOOK, .name = q->name};
  uint64_t seen;
  *ready = false;
  int rc = see(q, &seen);
  if (rc || is_idle(q, seen)) return rc;
  rc = store_look(q->store, &look);
  if (rc) return rc;
  *ready = look.outlook.ready;
  if (!*ready) note_idle(q, seen, look.outlook.due_in);
  return 0;
}

static bool take_again(respool_ticket *t) {
  take_ticket *p = (take_ticket *)t->unit;
  p->unit.now = store_time(t->store);
  return !p->unit.rc && goes_on(&p->step.claim);
}

static int start_take(respool_ticket *t) {
  take_ticket *p = (take_ticket *)t->unit;
  respool_batch *batch = p->step.claim.batch;
  if (!batch) batch = batch_new(p->queue);
  if (!batch) return RESPOOL_NOMEM;
  p->step = take_step(&p->options, batch);
  p->unit.steps = &p->step;
  p->unit.n = 1;
  return store_start(t);
}

static void poll_take(respool_ticket *t) {
  const take_ticket *p = (take_ticket *)t->unit;
  bool ready;
  int rc = any_ready(p->queue, &ready);
  if (!rc && ready) rc = start_take(t);
  if (rc || (!ready && clock_mono() >= p->end)) ticket_answer(t, rc);
}

/* When a poll may find something, but for what is committed until then; and
   how long the take waits. */
static void take_waits(respool_ticket *t, int64_t *due, int64_t *left) {
  const take_ticket *p = (take_ticket *)t->unit;
  const respool_queue *q = p->queue;
  int64_t again = q->idle.looked + LOOK_AGAIN - clock_mono();
  int64_t ms = least(q->idle.due - respool_now(q->store), again);
  *left = p->end - clock_mono();
  if (*left < 0) *left = 0;
  *due = least(ms < 0 ? 0 : ms, *left);
}

static int finish_take(respool_ticket *t, respool_result *out) {
  take_ticket *p = (take_ticket *)t->unit;
  respool_batch *batch = p->step.claim.batch;
  p->step.claim.batch = NULL;
  int rc = batch_ready(&batch, false);
  if (!rc) out->batch = batch;
  return rc;
}

static void dispose_take(respool_ticket *t) {
  respool_batch *batch = ((take_ticket *)t->unit)->step.claim.batch;
  if (t->started && !t->unit->rc)
    batch_abandon(batch);
  else
    respool_batch_free(batch);
}

int respool_take_start(respool_queue *q, const respool_take_options *o,
                       respool_ticket **out) {
  if (!o) o = &defaults;
  int rc = queue_check(q);
  if (!rc) rc = take_check(o);
  if (!rc && o->wait && q->store->clock.manual)
    rc = invalid("wait", "0 with a ticket and a manual clock");
  if (rc) return rc;
  respool_ticket *t = queue_ticket(q, sizeof(take_ticket));
  if (!t) return RESPOOL_NOMEM;
  take_ticket *p = (take_ticket *)t->unit;
  p->queue = q;
  p->options = *o;
  p->end = time_after(clock_mono(), o->wait);
  t->poll = poll_take;
  t->waits = take_waits;
  t->again = take_again;
  t->finish = finish_take;
  t->dispose = dispose_take;
  poll_take(t);
  *out = t;
  return 0;
}

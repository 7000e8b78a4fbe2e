/* SPDX-License-Identifier: MIT */
/*
 * Small units; see small.h. Whether a queue is plain is read from LMDB, and
 * remembered until the next commit there. Another process may commit between
 * that look and the call of the journal. A queue that it dropped has no row any
 * more; a take that began before it paused or held the queue may go on as if it
 * had ended before; items that are pushed so are applied before LMDB uses the
 * queue again.
 *
 * Ensures: 1. A push or done is over when the journal is flushed behind it.
 * 2. A unit that the journal refuses has changed nothing there.
 */
#include "lmdb/small.h"

#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/clock.h"
#include "base/error.h"
#include "lmdb/env/env.h"
#include "lmdb/queue/flow.h"
#include "lmdb/queue/room.h"
#include "lmdb/queue/state.h"
#include "lmdb/steps/live.h"
#include "lmdb/unit/journaled.h"
#include "lmdb/unit/unit.h"
#include "policy/outcome.h"

#define KNOWN_MAX 256

/* A queue, as it is in the record of commit `as_of`. */
typedef struct known {
  uint64_t word; /* of its name, or 0 */
  size_t as_of;
  char name[RESPOOL_NAME_MAX + 1];
  uint64_t number;
  bool plain, paused;
  int64_t ttl, lease, max_lease, clock_last, clock_offset;
} known;

void small_forget(lmdb_env *e) {
  free(e->known);
  e->known = NULL;
}

/* ---- the queue ----------------------------------------------------------- */

static bool is_plain(const queue *q) {
  const queue_config *c = &q->config;
  return c->max_items == RESPOOL_UNLIMITED &&
         c->max_bytes == RESPOOL_UNLIMITED && !c->ordered && !c->weights.n &&
         c->keep_done <= 0 && !queue_has_flow(q) && !q->n_partitions;
}

static void note_queue(known *k, const queue *q, size_t as_of) {
  k->as_of = as_of;
  k->number = q->id;
  k->plain = is_plain(q);
  k->paused = q->paused;
  k->ttl = q->config.ttl;
  k->lease = q->config.lease;
  k->max_lease = q->config.max_lease;
  k->clock_last = q->clock_last;
  k->clock_offset = q->clock_offset;
}

/* Does this process know it from its last commit? */
static bool recall_queue(lmdb_env *e, known *k) {
  size_t as_of;
  if (!env_hold(&e->base)) return false;
  const queue *q = unit_known(e, k->name, &as_of);
  if (q) note_queue(k, q, as_of);
  env_release(&e->base);
  return q;
}

static bool read_queue(lmdb_env *e, known *k) {
  txn *t;
  int rc = 0;
  if (unit_begin(&e->base, false, &t)) return false;
  const queue *q = queue_find(t, k->name, &rc);
  if (q) note_queue(k, q, txn_number(t));
  unit_abort(t);
  return q;
}

/* NULL: there is none, or it cannot be read. */
static known *find_queue(lmdb_env *e, const char *name) {
  uint64_t word = queue_word(name);
  if (!e->known) e->known = calloc(KNOWN_MAX, sizeof(known));
  known *k = e->known ? (known *)e->known + word % KNOWN_MAX : NULL;
  if (!k) return NULL;
  bool same = k->word == word && !strcmp(k->name, name);
  if (same && k->as_of && k->as_of == env_last(&e->base)) return k;
  k->word = word;
  strcpy(k->name, name);
  k->as_of = 0;
  return recall_queue(e, k) || read_queue(e, k) ? k : NULL;
}

/* The queue's time, unless LMDB makes up for a clock that went back. */
static bool time_of(const known *k, const unit *u, int64_t *now) {
  *now = u->now == SERVER_TIME ? clock_wall() : u->now;
  return !k->clock_offset && *now >= k->clock_last;
}

static int apply_all(lmdb_env *e) {
  txn *t;
  int rc = unit_begin(&e->base, true, &t);
  if (rc) return rc;
  rc = journaled_apply(t, JOURNAL_ALL);
  if (!rc && t->changes) return unit_commit(t);
  unit_abort(t);
  return rc;
}

/* A power cut may undo LMDB's last commit, which may have made the queue, and
   leave the journal with items of it. */
static int keep_queue(lmdb_env *e, const queue *q) {
  if (journal_knows(e->journal, q->id)) return 0;
  int rc = txn_env_sync(e);
  if (rc == RESPOOL_UNKNOWN_OUTCOME) e->must_reopen = true;
  return rc;
}

/* In a write transaction, so that LMDB stands still. */
static int learn_once(lmdb_env *e, known *k, int64_t *ready_at) {
  txn *t;
  int rc = unit_begin(&e->base, true, &t);
  if (rc) return rc;
  queue *q = queue_find(t, k->name, &rc);
  if (!rc) rc = keep_queue(e, q);
  if (!rc) rc = journal_queue(e->journal, q->id, q->next_id);
  if (!rc) {
    note_queue(k, q, txn_number(t) - 1); /* of the commit before it */
    *ready_at = queue_ready_at(t, q);
    journal_view(e->journal, q->id, *ready_at);
  }
  unit_abort(t);
  return rc;
}

/* Gives the queue a row, and sees since when LMDB has something to hand out.
   0, or the journal does without. */
static int learn(lmdb_env *e, known *k, int64_t *ready_at) {
  for (int tries = 0;; tries++) {
    int rc = learn_once(e, k, ready_at);
    if (rc != JOURNAL_ELSEWHERE || tries) return rc;
    rc = apply_all(e); /* all rows are in use */
    if (rc) return rc;
  }
}

/* ---- mending ------------------------------------------------------------- */

int small_flush(lmdb_env *e) {
  e->flushing++;
  int rc = e->journal ? journal_flush_all(e->journal) : 0;
  e->flushing--;
  return rc;
}

#define LATE_MS 1000

int small_flush_late(lmdb_env *e) {
  int64_t now = clock_mono();
  if (!e->unflushed_since) e->unflushed_since = now;
  if (now - e->unflushed_since < LATE_MS) return 0;
  e->unflushed_since = 0;
  return small_flush(e);
}

int small_flush_to(lmdb_env *e, uint64_t end) {
  e->flushing++;
  int rc = journal_flush(e->journal, end);
  e->flushing--;
  return rc;
}

/* Whether units are on disk is LMDB's to say alone: where the journal cannot be
   told now, the next sync tells it. */
static int sync_and_tell(lmdb_env *e) {
  uint64_t applied, held;
  bool told = e->journal &&
              !journal_applied_to(e->journal, &applied, &held);
  int rc = env_sync(&e->base);
  if (!rc && told) (void)journal_freed(e->journal, applied);
  return rc;
}

int small_sync(lmdb_env *e) {
  e->flushing++;
  int rc = sync_and_tell(e);
  e->flushing--;
  return rc;
}

void small_catch_up(lmdb_env *e) {
  uint64_t applied, held;
  if (!e->journal || journal_applied_to(e->journal, &applied, &held)) return;
  if (held >= JOURNAL_HALF / 2) (void)small_sync(e);
}

int small_mend(lmdb_env *e) {
  int rc = apply_all(e);
  if (!rc) rc = small_sync(e);
  if (!rc) rc = journaled_enter(e);
  if (rc) return rc;
  rc = journal_renew(e->journal);
  journaled_leave(e);
  return rc;
}

void small_apply_old(lmdb_env *e) {
  txn *t;
  if (unit_begin(&e->base, true, &t)) return;
  if (journaled_apply(t, JOURNAL_OLD) || !t->changes)
    unit_abort(t);
  else if (!unit_commit(t))
    (void)small_sync(e);
}

/* ---- push ---------------------------------------------------------------- */

/* Invariant: whatever else a push or a queue may ask for is named here or in
   is_plain, or the journal does not do it. */
static bool is_plain_push(const append_req *r) {
  const builder *b = r->builder;
  return !r->no_journal && !r->dead && !r->key.size && !r->delay && !r->at &&
         !r->attempts && !r->deliveries && !r->crashes &&
         !r->failures.size && !r->memo.size && !b->n_large && !b->version &&
         b->n_items && b->n_items <= JOURNAL_BATCH && !b->parted &&
         b->bytes.len <= JOURNAL_PUSH;
}

/* A unit that is over before the flush has one all the same, as the next one's
   commit in LMDB would be. */
static void note_write(unit *u, small_group *g, uint64_t end, bool due) {
  u->wrote = g->wrote = true;
  if (u->relaxed)
    g->late = true;
  else if (g->end < end)
    g->end = end;
  g->due = g->due || due;
}

static int64_t expiry_of(const known *k, const append_req *r, int64_t now) {
  int64_t ttl = r->ttl == RESPOOL_KEEP ? k->ttl : r->ttl;
  return ttl == RESPOOL_UNLIMITED ? 0 : time_after(now, ttl);
}

static int push_items(lmdb_env *e, known *k, journal_push_req *p) {
  int64_t ready_at;
  int rc = journal_push(e->journal, p);
  if (rc != JOURNAL_ELSEWHERE) return rc;
  rc = learn(e, k, &ready_at);
  p->queue = k->number;
  return rc ? rc : k->plain ? journal_push(e->journal, p) : JOURNAL_ELSEWHERE;
}

/* Units that follow one another have the items of a record. */
static void note_pushes(unit *u, size_t n, const journal_push_req *p,
                        small_group *g) {
  uint64_t first = p->first;
  for (; n; n--, u = u->next) {
    append_req *r = &u->steps->append;
    r->first = first;
    r->duplicate = r->never_fits = false;
    if (r->refusal) r->refusal->rc = 0;
    if (r->bound) *r->bound = RESPOOL_UNLIMITED;
    u->needs_flush = false;
    unit_note(u, 0);
    note_write(u, g, p->end, p->due);
    first += r->builder->n_items;
  }
}

static bool has_room(lmdb_env *e, uint64_t max_store) {
  if (!env_hold(&e->base)) return false;
  bool room = journal_room(e, max_store);
  env_release(&e->base);
  return room;
}

static size_t count_items(const unit *u, size_t n) {
  size_t items = 0;
  for (; n; n--, u = u->next) items += u->steps->append.builder->n_items;
  return items;
}

static void gather_items(const unit *u, size_t n, respool_bytes *items) {
  for (; n; n--, u = u->next) {
    const builder *b = u->steps->append.builder;
    builder_items(b, items);
    items += b->n_items;
  }
}

/* The pushes of `n` units, as one record. */
static int push(lmdb_env *e, unit *u, size_t n, small_group *g) {
  const append_req *r = &u->steps->append;
  int64_t now;
  known *k = find_queue(e, u->steps->name);
  if (!k || !k->plain || !time_of(k, u, &now) ||
      !has_room(e, r->max_store))
    return JOURNAL_ELSEWHERE;
  respool_bytes few[64], *items = few;
  size_t n_items = count_items(u, n);
  if (n_items > 64) items = malloc(n_items * sizeof *items);
  if (!items) return JOURNAL_ELSEWHERE;
  gather_items(u, n, items);
  journal_push_req p = {.queue = k->number, .priority = r->priority,
                        .now = now, .expires = expiry_of(k, r, now),
                        .items = items, .n = n_items, .reason = r->reason};
  int rc = push_items(e, k, &p);
  if (!rc) note_pushes(u, n, &p, g);
  if (items != few) free(items);
  return rc;
}

/* Has the second push the record's head of the first? */
static bool is_alike(const unit *a, const unit *b) {
  if (b->n != 1 || b->barrier || b->steps->kind != STEP_APPEND) return false;
  const append_req *x = &a->steps->append, *y = &b->steps->append;
  return !strcmp(a->steps->name, b->steps->name) && a->now == b->now &&
         x->priority == y->priority && x->ttl == y->ttl &&
         x->max_store == y->max_store && !x->reason && !y->reason;
}

#define TOGETHER (JOURNAL_PUSH / 2) /* bytes; the record has others as well */

/* The units from this one on whose pushes one record can have. */
static size_t count_alike(const unit *first) {
  size_t n = 0, items = 0, bytes = 0;
  for (const unit *u = first; u && (u == first || is_alike(first, u));
       u = u->next) {
    const append_req *r = &u->steps->append;
    if (!is_plain_push(r)) break;
    items += r->builder->n_items;
    bytes += r->builder->bytes.len;
    if (n && (items > JOURNAL_BATCH || bytes > TOGETHER)) break;
    n++;
  }
  return n;
}

/* ---- take ---------------------------------------------------------------- */

static bool add_claim(respool_batch *b, const known *k,
                      const journal_item *i) {
  batch_claim *h = b->n_claims ? &b->claims[b->n_claims - 1] : NULL;
  if (!h || h->priority != i->priority) {
    h = batch_add_claim(b);
    if (!h) return false;
    *h = (batch_claim){.queue = (uint32_t)k->number, .space = SPACE_JOURNAL,
                       .priority = i->priority, .first = i->id,
                       .from = b->page.n - 1, .deliveries = 1};
  }
  h->to = b->page.n;
  return true;
}

/* An item that cannot be read stays leased; LMDB sees to it when that ends. */
static bool add_item(respool_batch *b, const known *k,
                     const journal_item *i) {
  respool_item *out;
  bool had_room = live_show(&b->page, i, RESPOOL_LEASED, &out);
  return out ? add_claim(b, k, i) : had_room;
}

/* Items that came after a flush may be of a higher priority. */
static int by_priority_and_id(const void *a, const void *b) {
  const journal_item *x = a, *y = b;
  if (x->priority != y->priority) return x->priority > y->priority ? -1 : 1;
  return x->id < y->id ? -1 : x->id > y->id;
}

static int fill_batch(respool_batch *b, const known *k,
                      const journal_take_req *r) {
  b->token = r->n ? r->items->token : 0;
  qsort(r->items, r->n, sizeof *r->items, by_priority_and_id);
  b->lease = r->until - r->now;
  b->max_lease = k->max_lease;
  for (size_t i = 0; i < r->n; i++)
    if (!add_item(b, k, &r->items[i]))
      return fail(RESPOOL_NOMEM, "not enough memory for a batch");
  return 0;
}

static int take_items(lmdb_env *e, known *k, journal_take_req *r) {
  int64_t ready_at;
  int rc = journal_take(e->journal, r);
  if (rc != JOURNAL_ELSEWHERE || r->ready) return rc;
  rc = learn(e, k, &ready_at);
  r->queue = k->number;
  if (rc) return rc;
  if (!k->plain || ready_at <= r->now) return JOURNAL_ELSEWHERE;
  return journal_take(e->journal, r);
}

static int take_from(lmdb_env *e, known *k, claim_req *c,
                     journal_take_req *r) {
  r->max = c->items < JOURNAL_BATCH ? c->items : JOURNAL_BATCH;
  r->items = malloc((r->max + 1) * sizeof *r->items);
  if (!r->items) return JOURNAL_ELSEWHERE;
  int rc = take_items(e, k, r);
  if (!rc) rc = fill_batch(c->batch, k, r);
  free(r->items);
  return rc;
}

static int take(lmdb_env *e, unit *u, step *s) {
  claim_req *c = &s->claim;
  known *k = find_queue(e, s->name);
  int64_t now;
  if (!k || !k->plain || !time_of(k, u, &now)) return JOURNAL_ELSEWHERE;
  batch_clear(c->batch);
  c->more = false;
  c->due_in = INT64_MAX;
  if (k->paused) return 0;
  journal_take_req r = {
    .queue = k->number, .bytes = c->bytes ? c->bytes : UINT64_MAX,
    .now = now, .worker = c->worker, .to = &c->batch->page.memory,
    .until = time_after(now, c->lease == RESPOOL_KEEP ? k->lease : c->lease)};
  int rc = take_from(e, k, c, &r);
  if (rc) return rc;
  if (!r.n && r.next != JOURNAL_NEVER) c->due_in = r.next - now;
  return 0;
}

/* ---- settle -------------------------------------------------------------- */

/* The items that are settled now, if all are done and were leased here. */
typedef struct dones {
  uint64_t *ids, *tokens;
  uint8_t *outcome;
  size_t n;
} dones;

static bool add_claim_dones(const settle_req *r, const batch_claim *h,
                            dones *d) {
  claim_outcomes x = {.batch = r->batch, .marks = r->marks, .all = &r->all,
                      .from = h->from, .to = h->to};
  for (size_t i = h->from; i < h->to; i++) {
    int kind = outcomes_mark(&x, i)->kind;
    if (outcomes_is_settled(&x, i) || kind == RESPOOL_NONE) continue;
    if (kind != RESPOOL_DONE || h->space != SPACE_JOURNAL || h->over)
      return false;
    d->ids[d->n] = r->batch->page.items[i].id;
    d->tokens[d->n++] = r->batch->token;
  }
  return true;
}

static bool find_dones(const settle_req *r, dones *d) {
  for (size_t i = 0; i < r->batch->n_claims; i++)
    if (!add_claim_dones(r, &r->batch->claims[i], d)) return false;
  return d->n;
}

static void note_settle(unit *u, settle_req *r, const journal_done_req *q,
                        small_group *g) {
  r->batch->lost = 0;
  for (size_t i = 0; i < r->batch->n_claims; i++)
    r->batch->claims[i].lost = false;
  note_write(u, g, q->end, q->due);
}

/* All that are marked, or nothing. */
static int settle_dones(lmdb_env *e, unit *u, const known *k, int64_t now,
                        const dones *d, small_group *g) {
  settle_req *r = &u->steps->settle;
  journal_done_req q = {.queue = k->number, .now = now, .ids = d->ids,
                        .tokens = d->tokens, .n = d->n,
                        .outcome = d->outcome,
                        .handle = &r->batch->observed};
  int rc = journal_done(e->journal, &q, true);
  if (rc) return rc;
  if (q.done < d->n) return JOURNAL_ELSEWHERE; /* lost: LMDB counts them */
  note_settle(u, r, &q, g);
  return 0;
}

static int settle(lmdb_env *e, unit *u, small_group *g) {
  const settle_req *r = &u->steps->settle;
  const known *k = find_queue(e, u->steps->name);
  size_t n = r->batch->page.n;
  int64_t now;
  if (!k || !k->plain || !n || !time_of(k, u, &now)) return JOURNAL_ELSEWHERE;
  dones d = {.ids = malloc(n * (2 * sizeof *d.ids + sizeof *d.outcome))};
  if (!d.ids) return JOURNAL_ELSEWHERE;
  d.tokens = d.ids + n;
  d.outcome = (uint8_t *)(d.tokens + n);
  int rc = find_dones(r, &d) ? settle_dones(e, u, k, now, &d, g)
                             : JOURNAL_ELSEWHERE;
  free(d.ids);
  return rc;
}

/* ---- a unit -------------------------------------------------------------- */

/* How many units are ones that the journal may do at once: pushes, or one. */
static size_t count_small(const unit *u) {
  if (u->barrier) return 0;
  if (u->n == 2)
    return u->steps[0].kind == STEP_SETTLE && u->steps[1].kind == STEP_CLAIM;
  if (u->n != 1) return 0;
  if (u->steps->kind == STEP_APPEND) return count_alike(u);
  return u->steps->kind == STEP_CLAIM || u->steps->kind == STEP_SETTLE;
}

static int run_step(lmdb_env *e, unit *u, size_t n, small_group *g) {
  step *s = &u->steps[u->ran];
  switch (s->kind) {
    case STEP_APPEND: return push(e, u, n, g);
    case STEP_CLAIM: return take(e, u, s);
    default: return settle(e, u, g);
  }
}

size_t small_run(lmdb_env *e, unit *u, small_group *g) {
  int rc = 0;
  size_t n = e->journal ? count_small(u) : 0;
  u->needs_flush = false;
  u->wrote = false;
  if (!n) return 0;
  for (; u->ran < u->n && !rc; u->ran += !rc) rc = run_step(e, u, n, g);
  if (rc == RESPOOL_NOMEM && u->ran) rc = 0; /* the settle stands */
  if (rc == RESPOOL_IO) (void)small_mend(e);
  if (rc == RESPOOL_LOCKED && !u->ran) {
    unit_note(u, rc);
    return 1;
  }
  if (rc && u->ran && !u->relaxed) { /* what LMDB goes on with stands */
    int flushed = small_flush_to(e, g->end);
    unit_note(u, flushed);
    return flushed != 0;
  }
  if (rc) return 0;
  unit_note(u, 0);
  return n;
}

void small_wake(lmdb_env *e, const unit *u) {
  const step *s = u->steps; /* a barrier has none */
  if (u->n == 1 && s->kind == STEP_APPEND && u->wrote)
    journal_wake(e->journal, queue_word(s->name),
                 (int)s->append.builder->n_items);
}

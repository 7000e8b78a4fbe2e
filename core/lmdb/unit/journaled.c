/* SPDX-License-Identifier: MIT */
/*
 * Applying the journal; see journaled.h. Ids of the journal may lie below
 * ones that LMDB gave out: a push to the journal that ran beside one to LMDB.
 */
#include "lmdb/unit/journaled.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/hash.h"
#include "lmdb/dead/dead_letters.h"
#include "lmdb/env/env.h"
#include "lmdb/env/txn/cur.h"
#include "lmdb/queue/claims.h"
#include "lmdb/queue/state.h"
#include "lmdb/record/meta.h"
#include "lmdb/record/segments.h"
#include "lmdb/unit/expiry.h"
#include "record/leases.h"

static journal *journal_of(const txn *t) {
  return t->entered ? t->env->journal : NULL;
}

uint64_t queue_word(const char *name) {
  return XXH3_64bits(name, strlen(name));
}

/* ---- entering and leaving ----------------------------------------------- */

static int no_store(const lmdb_env *e) {
  return fail(RESPOOL_IO, "store '%.160s' is not readable", e->path);
}

static void end_turn(lmdb_env *e) {
  if (!env_hold(&e->base)) return;
  txn_end_turn(e);
  env_release(&e->base);
}

/* The environment is not held meanwhile: it may have to be opened again. */
int journaled_enter(lmdb_env *e) {
  if (!env_hold(&e->base)) return no_store(e);
  int rc = txn_take_turn(e) ? RESPOOL_LOCKED : 0;
  env_release(&e->base);
  if (rc) return rc;
  rc = journal_enter(e->journal);
  if (rc) end_turn(e);
  return rc;
}

void journaled_leave(lmdb_env *e) {
  journal_leave(e->journal);
  end_turn(e);
}

journal_applied journaled_position(txn *t) {
  uint64_t row[3];
  meta_row_get(t, "journal", row, 3);
  return (journal_applied){row[0], row[1], row[2]};
}

/* Finishes what a process that died has left. In a write transaction: when a
   process dies between the writing of LMDB's meta page and the telling of it,
   readers see the commit only once the next writer has been there. */
static int resolve(txn *t) {
  journal_work *none;
  journal_applied a = journaled_position(t);
  return t->rc ? t->rc
               : journal_begin(t->env->journal, &a, JOURNAL_NOTHING, &none);
}

int journaled_begin(txn *t) {
  journal *j = t->env->journal;
  int rc = j ? journal_enter(j) : 0;
  if (rc || !j) return rc;
  t->entered = true;
  for (queue *q = t->queues; q; q = q->next) q->touched = false;
  return resolve(t);
}

/* ---- the queue of a number ----------------------------------------------- */

static bool has_number(txn *t, const char *name, uint64_t number) {
  int rc;
  const queue *q = queue_find(t, name, &rc);
  return q && q->id == number;
}

queue *queue_by_number(txn *t, uint64_t number) {
  char name[RESPOOL_NAME_MAX + 1];
  queue *q = queue_loaded(t, number);
  if (q) return q;
  cur c;
  cur_open(&c, t, DB_QUEUES);
  bool found = false;
  for (bool more = cur_first(&c); more && !found; more = cur_next(&c)) {
    if (!c.key.size || c.key.size >= sizeof name) continue;
    memcpy(name, c.key.data, c.key.size);
    name[c.key.size] = '\0';
    found = has_number(t, name, number);
  }
  cur_close(&c);
  int rc;
  return found ? queue_find(t, name, &rc) : NULL;
}

/* ---- the items of a queue ------------------------------------------------ */

/* A lease, and its items so far; at most one for each priority is open. */
typedef struct lease {
  uint64_t token, first, last, n;
  int64_t until;
} lease;

typedef struct putting {
  txn *t;
  queue *q;
  const journal_item *of; /* by id */
  size_t n;
  lease leases[RESPOOL_PRIORITIES];
} putting;

/* Does it lie in one segment with the item before it? */
static bool goes_on(const journal_item *i) {
  const journal_item *b = i - 1;
  return i->id == b->id + 1 && i->priority == b->priority &&
         i->time == b->time && i->expires == b->expires && !i->damaged &&
         !i->token == !b->token;
}

static void put_items(putting *p, const line *l, size_t from, size_t to) {
  const journal_item *i = &p->of[from];
  builder b;
  builder_init(&b, 0);
  for (size_t k = from; k < to; k++)
    builder_add_raw(&b, p->of[k].packed, false);
  int rc = builder_finish(&b);
  txn_fail(p->t, rc);
  append_req r = {.builder = &b};
  p->t->env->used += b.bytes.len + b.bytes.len / 8; /* see room.c */
  if (!rc)
    segments_append(p->t, p->q, &r, l, i->id, i->time, i->expires);
  builder_free(&b);
}

static void put_claim(const putting *p, const line *l, const lease *e) {
  place at = {*l, e->first, 0};
  bool leased = e->token;
  claim c = {.last = e->last, .state = leased ? CLAIM_LEASED : CLAIM_WAITING,
             .token = e->token, .visible_at = e->until, .left = e->n,
             .deliveries = leased};
  claim_put(p->t, &at, &c);
}

/* Ready items; where the line's head has passed them they are found by a
   claim that is due. */
static void put_ready(putting *p, size_t from, size_t to) {
  const journal_item *i = &p->of[from];
  line l = {p->q->id, SPACE_READY, i->priority};
  priority_state *s = queue_priority_make(p->t, p->q, i->priority);
  if (!s) return;
  if (!priority_items(s)) s->head = i->id;
  bool passed = i->id < s->head;
  if (passed) l.space = SPACE_DELAYED;
  put_items(p, &l, from, to);
  if (passed) put_claim(p, &l, &(lease){0, i->id, i->id + (to - from) - 1,
                                        to - from, i->time});
  priority_count(p->t, p->q, i->priority, COUNT_NONE,
                 passed ? COUNT_SCHEDULED : COUNT_READY, to - from);
}

/* Some of its items may have been applied before, with the older half: a batch
   has one claim for all. */
static bool extend_claim(const putting *p, const line *l, const lease *e) {
  place at = {*l, e->first, 0};
  key k = claim_key(&at);
  respool_bytes found, v;
  claim old;
  if (!txn_floor(p->t, DB_CLAIMS, key_bytes(&k), &found, &v) ||
      !claim_key_read(found, &at) || !same_line(&at.line, l) ||
      !claim_get(p->t, &at, &old) || old.token != e->token)
    return false;
  claim longer = old;
  longer.last = e->last;
  longer.left += e->n;
  if (longer.visible_at < e->until) longer.visible_at = e->until;
  claim_move(p->t, &at, &old, &longer);
  return true;
}

static void close_lease(putting *p, int priority) {
  lease *e = &p->leases[priority];
  line l = {p->q->id, SPACE_JOURNAL, priority};
  if (!e->n) return;
  if (!extend_claim(p, &l, e)) put_claim(p, &l, e);
  priority_count(p->t, p->q, priority, COUNT_NONE, COUNT_LEASED, e->n);
  uint64_t number = token_number(e->token);
  if (p->q->next_token <= number) p->q->next_token = number + 1;
  e->n = 0;
}

/* The items of a lease are consecutive among those of their priority but for
   ones that are done: a batch has one claim for them. */
static void put_leased(putting *p, size_t from, size_t to) {
  const journal_item *i = &p->of[from];
  line l = {p->q->id, SPACE_JOURNAL, i->priority};
  put_items(p, &l, from, to);
  for (; from < to; from++) {
    i = &p->of[from];
    lease *e = &p->leases[i->priority];
    if (e->n && e->token != i->token) close_lease(p, i->priority);
    if (!e->n) *e = (lease){i->token, i->id, i->id, 0, i->until};
    e->last = i->id;
    e->n++;
    if (e->until < i->until) e->until = i->until;
  }
}

static void put_damaged(const putting *p, const journal_item *i) {
  packer bytes;
  packer_init(&bytes);
  item_pack_damaged(&bytes, i->packed);
  txn_fail(p->t, bytes.rc);
  death d = {.reason = "undecodable", .items = 1, .at = p->q->clock_last,
             .deliveries = i->token != 0,
             .error = phrase_of("the item's checksum does not hold")};
  respool_item_about about = {.priority = i->priority, .pushed_at = i->time};
  respool_item gone = {.id = i->id, .about = &about};
  if (!p->t->rc)
    dlq_add(p->t, p->q, &d, &gone, (respool_bytes){bytes.data, bytes.len});
  packer_free(&bytes);
  p->q->counters.died++;
  p->q->counters.damaged++;
}

static void put_run(putting *p, size_t from, size_t to) {
  const journal_item *i = &p->of[from];
  if (p->q->clock_last < i->time) p->q->clock_last = i->time;
  if (i->damaged)
    put_damaged(p, i);
  else if (i->token)
    put_leased(p, from, to);
  else
    put_ready(p, from, to);
}

static void put_queue(putting *p) {
  for (size_t from = 0, to; from < p->n && !p->t->rc; from = to) {
    for (to = from + 1; to < p->n && !p->of[from].damaged &&
                        goes_on(&p->of[to]); to++)
      continue;
    put_run(p, from, to);
  }
  for (int i = 0; i < RESPOOL_PRIORITIES; i++) close_lease(p, i);
  queue_changed(p->t, p->q);
}

/* ---- all of it ----------------------------------------------------------- */

typedef struct items {
  journal_item *of;
  size_t n, cap;
  arena memory;
} items;

static int read_items_of(journal_work *w, items *all) {
  for (;;) {
    if (!array_grow(&all->of, all->n, 1, &all->cap, sizeof *all->of))
      return fail(RESPOOL_NOMEM, "not enough memory to apply the journal");
    int rc = journal_next(w, &all->of[all->n], &all->memory);
    if (rc <= 0) return rc;
    all->n++;
  }
}

int journaled_put(txn *t, const journal_item *of, size_t n) {
  for (size_t from = 0, to; from < n && !t->rc; from = to) {
    uint64_t number = of[from].queue;
    for (to = from; to < n && of[to].queue == number; to++) continue;
    queue *q = queue_by_number(t, number);
    if (t->rc) break;
    if (!q)
      return fail(RESPOOL_CORRUPT, "the journal holds items of a queue that "
                  "is not in the data file; see respool repair");
    putting *p = calloc(1, sizeof *p);
    txn_fail(t, p ? 0 : RESPOOL_NOMEM);
    if (!p) break;
    p->t = t;
    p->q = q;
    p->of = &of[from];
    p->n = to - from;
    put_queue(p);
    free(p);
  }
  return t->rc;
}

void journaled_add(respool_queue_stats *to, const journal_figures *from) {
  to->delivered_bytes += from->delivered_bytes;
  for (int i = 0; i < RESPOOL_FLUSH_REASONS; i++)
    to->flushes[i] += from->flushes[i];
  histogram_merge(&to->wait, &from->wait);
  histogram_merge(&to->handle, &from->handle);
}

static void add_share(txn *t, const journal_share *s) {
  queue *q = queue_by_number(t, s->queue);
  if (!q) return; /* dropped since */
  respool_queue_stats *c = &q->counters;
  if (q->next_id < s->next_id) q->next_id = s->next_id;
  c->pushed += s->pushed;
  c->pushed_bytes += s->pushed_bytes;
  c->done += s->done;
  c->delivered += s->delivered;
  journaled_add(c, &s->figures);
  queue_changed(t, q);
}

static int put_work(txn *t) {
  items all = {.n = 0};
  arena_init(&all.memory);
  int rc = read_items_of(t->work, &all);
  if (!rc) rc = journaled_put(t, all.of, all.n);
  free(all.of);
  arena_free(&all.memory);
  size_t n;
  const journal_share *s = journal_shares(t->work, &n);
  for (size_t i = 0; i < n && !rc && !t->rc; i++) add_share(t, &s[i]);
  journal_applied a = journal_position(t->work);
  uint64_t row[] = {a.pos, a.chain, a.seed};
  if (!rc) meta_row_put(t, "journal", row, 3);
  return rc ? rc : t->rc;
}

int journaled_apply(txn *t, int what) {
  journal *j = journal_of(t);
  if (!j || t->work) return t->rc;
  journal_applied a = journaled_position(t);
  int rc = t->rc ? t->rc : journal_begin(j, &a, what, &t->work);
  if (rc || !t->work) return rc;
  uint64_t before = t->changes;
  rc = put_work(t);
  txn_note(t, rc); /* half of it is nothing to be committed */
  t->work_changes += t->changes - before;
  return rc;
}

static int touch_any(txn *t, journal *j) {
  journal_state now;
  int rc = journal_now(j, &now);
  return rc || !now.live ? rc : journaled_apply(t, JOURNAL_ALL);
}

bool journaled_clock_moves(txn *t, const char *name, int64_t wall) {
  int rc = 0;
  const queue *q = journal_of(t) ? queue_find(t, name, &rc) : NULL;
  return q && (q->clock_offset || queue_clock_went_back(q, wall));
}

/* Once a transaction: what comes to the journal after that came beside it. */
static int touch_queue(txn *t, journal *j, queue *q) {
  bool any;
  int64_t clock;
  if (q->touched) return 0;
  int rc = journal_holds(j, q->id, &any, &clock);
  if (rc) return rc;
  q->touched = true;
  if (q->clock_last < clock && !q->clock_reset) q->clock_last = clock;
  return t->work || !any ? 0 : journaled_apply(t, JOURNAL_ALL);
}

int journaled_touch(txn *t, const char *name) {
  journal *j = journal_of(t);
  int rc = 0;
  if (!j) return 0;
  if (!name) return t->work ? 0 : touch_any(t, j);
  queue *q = queue_find(t, name, &rc);
  if (!q) return t->rc; /* nor has the journal anything of it */
  return touch_queue(t, j, q);
}

/* ---- ids and tokens ------------------------------------------------------ */

uint64_t journaled_ids(txn *t, queue *q, uint64_t n) {
  journal *j = journal_of(t);
  uint64_t first = j ? journal_ids(j, q->id, q->next_id, n) : q->next_id;
  q->next_id = first + n;
  return first;
}

int journaled_token(txn *t, queue *q, uint64_t worker, uint64_t *token) {
  journal *j = journal_of(t);
  uint64_t number = q->next_token;
  int rc = j ? journal_token(j, q->next_token, &number) : 0;
  if (rc) return rc;
  *token = token_make(number, worker);
  q->next_token = number + 1;
  return 0;
}

bool journaled_forget(txn *t, const queue *q) {
  journal *j = journal_of(t);
  if (!j || (!t->work && !journal_queue_forget(j, q->id))) return true;
  txn_note(t, journaled_apply(t, JOURNAL_ALL));
  return false;
}

/* ---- before and after the commit ----------------------------------------- */

int64_t queue_ready_at(txn *t, const queue *q) {
  int64_t at = JOURNAL_NEVER, expiry;
  due_key d;
  for (size_t i = 0; i < q->n_priorities; i++) {
    const priority_state *l = &q->priorities[i];
    if (l->ready) return JOURNAL_READY;
    if (claim_first_due(t, q, l->priority, &d) && d.at < at) at = d.at;
  }
  if (first_expiry(t, q, &expiry) && expiry < at) at = expiry;
  return at;
}

int journaled_store(txn *t) {
  journal *j = journal_of(t);
  for (queue *q = t->queues; q && j; q = q->next) {
    q->tell = q->tell || q->dirty;
    if (!q->tell) continue;
    q->ready_at = queue_ready_at(t, q);
    journal_view(j, q->id, 0);
  }
  return t->rc;
}

/* After a failure the views stay unknown. */
static void tell(journal *j, queue *q) {
  if (!q->tell) return;
  q->tell = q->clock_reset = false;
  (void)journal_clock(j, q->id, q->clock_last);
  journal_view(j, q->id, q->ready_at);
  if (!FAULT_WRONG("ends wake who waits"))
    journal_wake(j, queue_word(q->name), INT_MAX);
}

void journaled_end(txn *t, int rc) {
  journal *j = journal_of(t);
  if (!j) return;
  if (t->work) (void)journal_finish(t->work, rc);
  t->work = NULL;
  for (queue *q = t->queues; q && !rc; q = q->next) tell(j, q);
  t->entered = false;
  journal_leave(j);
}

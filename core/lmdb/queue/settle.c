/* SPDX-License-Identifier: MIT */
/*
 * Settle: the outcome of items. Of what a claim held, one group may stay in
 * place, so that a whole claim moves as one small record and copies nothing:
 * what is still held, else what is released, else what waits for the same
 * time for the same reason. Every other item leaves its segment: done and
 * dropped ones for good, dead ones to a dead letter, those that wait by
 * themselves to a segment of one and a claim of their own, under their id.
 */
#include "lmdb/queue/settle.h"

#include "lmdb/dead/dead_letters.h"
#include "lmdb/queue/claims.h"
#include "lmdb/queue/history.h"
#include "lmdb/queue/room.h"
#include "lmdb/queue/state.h"
#include "lmdb/queue/unique_key.h"
#include "lmdb/record/blobs.h"
#include "lmdb/record/segments.h"

#include "base/random.h"

#include <stdlib.h>

/* Fewer than this share of a segment's items do not keep it alive. */
#define WORTH_KEEPING 4

/* What becomes of an item once policy and limits have been asked. PAST was
   settled before. */
enum fate {
  FATE_HELD, FATE_DONE, FATE_DROP, FATE_DEAD, FATE_EXHAUSTED,
  FATE_RELEASE, FATE_RETRY, FATE_SNOOZE, FATE_COOLDOWN, FATE_PAST, FATE_COUNT
};

/* The settling of one hold. */
typedef struct work {
  txn *t;
  queue *q;
  settle_req *r;
  const batch_claim *h;
  place p;
  claim c;          /* as stored */
  int64_t now;
  enum fate stay;   /* FATE_COUNT: none */
  uint64_t staying; /* items */
  uint64_t n[FATE_COUNT];
  uint8_t *fates;   /* of each item of the hold */
  uint64_t *ids;    /* that leave their segments */
  size_t n_ids;
  const why *told;  /* items marked together fail alike: the last such */
  respool_bytes failures; /* history, with what it says */
} work;

static const mark *mark_of(const work *w, size_t i) {
  return &w->r->marks[i];
}

/* ---- fates -------------------------------------------------------------- */

static enum fate failed(const work *w) {
  const queue_config *c = &w->q->config;
  if (w->c.attempts + 1 < (uint64_t)c->max_attempts) return FATE_RETRY;
  if (c->on_exhausted == RESPOOL_LIMIT_DROP) return FATE_DROP;
  return c->on_exhausted == RESPOOL_LIMIT_COOLDOWN ? FATE_COOLDOWN
                                                  : FATE_EXHAUSTED;
}

static enum fate fate_of(const work *w, const mark *m) {
  switch (m->kind) {
    case RESPOOL_DONE: return FATE_DONE;
    case RESPOOL_RETRY: return failed(w);
    case RESPOOL_RELEASE: return FATE_RELEASE;
    case RESPOOL_SNOOZE: return FATE_SNOOZE;
    case RESPOOL_DEAD: return FATE_DEAD;
    case RESPOOL_DROP: return FATE_DROP;
    default: return FATE_HELD;
  }
}

static void find_fates(work *w) {
  const mark *marks = w->r->batch->marks;
  for (size_t i = w->h->from; i < w->h->to; i++) {
    enum fate f = marks[i].settled ? FATE_PAST : fate_of(w, mark_of(w, i));
    w->fates[i - w->h->from] = (uint8_t)f;
    w->n[f]++;
  }
}

static enum fate fate_at(const work *w, size_t i) {
  return w->fates[i - w->h->from];
}

/* Do all items of this fate wait alike? */
static bool alike(const work *w, enum fate f) {
  const mark *one = NULL;
  for (size_t i = w->h->from; i < w->h->to; i++) {
    const mark *m = mark_of(w, i);
    if (fate_at(w, i) != f) continue;
    if (one && (m->why != one->why || m->delay != one->delay)) return false;
    one = m;
  }
  return true;
}

/* Released items go back as they came, unless one has something to remember:
   a claim has one memo for all its items. */
static bool forgetful(const work *w) {
  for (size_t i = w->h->from; i < w->h->to; i++) {
    const mark *m = mark_of(w, i);
    if (fate_at(w, i) == FATE_RELEASE && m->why && m->why->memo.size)
      return false;
  }
  return true;
}

/* Would a few waiting items keep a large segment alive? They may where the
   disk is short of room: copies of them need some at once, and what is gained
   when the segment goes comes too late. */
static bool worth_keeping(const work *w, uint64_t n) {
  walk s;
  bool worth = true;
  if (w->p.line.space == SPACE_SOLO) return true;
  walk_open(&s, w->t, &w->p.line, w->r->batch->page.items[w->h->from].id);
  if (walk_next(&s)) worth = s.at.count <= n * WORTH_KEEPING;
  walk_close(&s);
  return worth || disk_is_short(w->t);
}

static void choose_stay(work *w) {
  static const enum fate waiting[] = {FATE_RETRY, FATE_SNOOZE,
                                      FATE_COOLDOWN};
  w->stay = w->n[FATE_HELD] ? FATE_HELD : FATE_COUNT;
  if (w->stay == FATE_COUNT && w->n[FATE_RELEASE] && forgetful(w))
    w->stay = FATE_RELEASE;
  for (size_t i = 0; i < 3 && w->stay == FATE_COUNT; i++) {
    enum fate f = waiting[i];
    if (w->n[f] && alike(w, f) && worth_keeping(w, w->n[f])) w->stay = f;
  }
  if (w->stay != FATE_COUNT) w->staying = w->n[w->stay];
}

/* ---- what a claim becomes ----------------------------------------------- */

static int64_t retry_delay(const work *w, const mark *m) {
  if (m->delay != RESPOOL_KEEP) return m->delay;
  return respool_backoff_delay(&w->q->config.backoff, w->c.attempts + 1,
                               w->c.delay, random_next(w->r->chance));
}

static respool_bytes add_failure(work *w, const mark *m) {
  if (!w->failures.size || m->why != w->told)
    w->failures = history_with(w->t, &w->r->batch->page.memory, w->c.history,
                               w->now, m->why);
  w->told = m->why;
  return w->failures;
}

/* The claim as it goes on with this fate. */
static claim going_on(work *w, enum fate f, const mark *m) {
  claim c = w->c;
  int64_t delay = 0;
  if (f == FATE_HELD) return c;
  c.state = CLAIM_WAITING;
  c.token = 0;
  if (m->why && m->why->memo.size) c.memo = m->why->memo;
  if (f == FATE_RETRY) {
    delay = c.delay = retry_delay(w, m);
    c.attempts++;
    c.history = add_failure(w, m);
  } else if (f == FATE_COOLDOWN) {
    delay = w->q->config.cooldown;
    c.attempts = 0;
    c.delay = 0;
    c.history = add_failure(w, m);
  } else if (f == FATE_SNOOZE)
    delay = m->delay;
  c.visible_at = time_after(w->now, delay);
  return c;
}

/* ---- items that leave --------------------------------------------------- */

static void bury(work *w, size_t i, const mark *m, enum fate f) {
  const respool_page *p = &w->r->batch->page;
  death d = {.reason = f == FATE_EXHAUSTED ? "exhausted" : "rejected",
             .items = 1, .at = w->now, .history = w->c.history,
             .attempts = w->c.attempts + 1, .deliveries = w->c.deliveries,
             .crashes = w->c.crashes, .memo = w->c.memo};
  if (m->why) {
    if (f == FATE_DEAD && m->why->reason) d.reason = m->why->reason;
    d.dlq = m->why->dlq;
    d.group = m->why->group;
    d.error = m->why->error;
    if (m->why->memo.size) d.memo = m->why->memo;
  }
  if (d.error.size || f == FATE_EXHAUSTED) d.history = add_failure(w, m);
  unique_release(w->t, w->q, &p->items[i], w->now);
  dead_bury(w->t, w->q, &d, &p->items[i], p->packed[i]);
}

/* The item is over: its blob goes, and its key is free. */
static void give_up(work *w, size_t i, enum fate f) {
  const respool_page *p = &w->r->batch->page;
  bool keep = f == FATE_DONE && w->q->config.keep_done > 0;
  bool plain = !p->items[i].key.size && p->packed[i].size != ITEM_REF_SIZE;
  if (plain && !keep) return;
  blob_ref r = blob_of(p->packed[i]);
  unique_release(w->t, w->q, &p->items[i], w->now);
  if (keep)
    history_keep(w->t, w->q, &p->items[i], p->packed[i], w->now);
  else if (r.number)
    blob_del(w->t, r.number);
  w->q->bytes -= r.size < w->q->bytes ? r.size : w->q->bytes;
}

/* A segment and a claim of its own, under the same id. */
static void park(work *w, size_t i, const mark *m, enum fate f) {
  const respool_page *page = &w->r->batch->page;
  place p = {w->p.line, page->items[i].id, 1};
  claim c = going_on(w, f, m);
  p.line.space = SPACE_SOLO;
  c.last = p.first;
  c.left = 1;
  segment_put_one(w->t, w->q, &p, page->packed[i], &page->items[i]);
  claim_put(w->t, &p, &c);
}

static void leave(work *w, size_t i, enum fate f) {
  const mark *m = mark_of(w, i);
  w->ids[w->n_ids++] = w->r->batch->page.items[i].id;
  if (f == FATE_DONE || f == FATE_DROP)
    give_up(w, i, f);
  else if (f == FATE_DEAD || f == FATE_EXHAUSTED)
    bury(w, i, m, f);
}

/* First those that are over leave their segments, then those that wait move
   in, lest a segment of one is both. */
static void leave_segments(work *w) {
  for (size_t i = w->h->from; i < w->h->to; i++) {
    enum fate f = fate_at(w, i);
    if (f != FATE_PAST && f != w->stay) leave(w, i, f);
  }
  segments_settle(w->t, w->q, &w->p.line, w->ids, w->n_ids);
}

static bool waits(enum fate f) {
  return f == FATE_RELEASE || f == FATE_RETRY || f == FATE_SNOOZE ||
         f == FATE_COOLDOWN;
}

/* Items that are over. */
static uint64_t ended(const work *w) {
  return w->n[FATE_DONE] + w->n[FATE_DROP] + w->n[FATE_DEAD] +
         w->n[FATE_EXHAUSTED];
}

static void park_others(work *w) {
  if (w->n_ids == ended(w)) return;
  for (size_t i = w->h->from; i < w->h->to && !w->t->rc; i++) {
    enum fate f = fate_at(w, i);
    if (f != w->stay && waits(f)) park(w, i, mark_of(w, i), f);
  }
}

/* ---- room for those that move ------------------------------------------- */

#define MOVE_COST 256 /* of keys, a claim or a dead letter's own, a share of
                         pages */

static bool moves(const work *w, enum fate f) {
  return f == FATE_DEAD || f == FATE_EXHAUSTED || (waits(f) && f != w->stay);
}

/* What a dead letter tells it tells twice: of its death and of its last
   failure. */
static uint64_t told(const why *y) {
  return y ? 2 * (y->error.size + y->group.size + y->trace.size) : 0;
}

static int room_to_move(const work *w) {
  uint64_t more = 0;
  if (w->n[FATE_DONE] + w->n[FATE_DROP] + w->n[FATE_PAST] + w->staying ==
      w->h->to - w->h->from)
    return 0;
  for (size_t i = w->h->from; i < w->h->to; i++)
    if (moves(w, fate_at(w, i)))
      more += w->r->batch->page.packed[i].size + w->c.history.size +
              told(mark_of(w, i)->why) + MOVE_COST;
  return disk_copy(w->t, more);
}

/* ---- the claim ---------------------------------------------------------- */

static const mark *mark_staying(const work *w) {
  for (size_t i = w->h->from; i < w->h->to; i++)
    if (fate_at(w, i) == w->stay) return mark_of(w, i);
  return NULL;
}

/* Before any of its items move, as they may come to lie in its place. */
static void settle_claim(work *w) {
  if (!w->staying) {
    claim_del(w->t, &w->p, &w->c);
    return;
  }
  claim c = going_on(w, w->stay, mark_staying(w));
  c.left = w->staying;
  claim_move(w->t, &w->p, &w->c, &c);
}

static void count(work *w) {
  respool_queue_stats *s = &w->q->counters;
  int priority = w->p.line.priority;
  uint64_t n_dead = w->n[FATE_DEAD] + w->n[FATE_EXHAUSTED];
  uint64_t wait = w->n[FATE_RELEASE] + w->n[FATE_RETRY] +
                  w->n[FATE_SNOOZE] + w->n[FATE_COOLDOWN];
  priority_count(w->t, w->q, priority, COUNT_LEASED, COUNT_WAITING, wait);
  priority_count(w->t, w->q, priority, COUNT_LEASED, COUNT_NONE, ended(w));
  s->done += w->n[FATE_DONE];
  s->removed += w->n[FATE_DROP];
  s->died += n_dead;
  s->released += w->n[FATE_RELEASE];
  s->retried += w->n[FATE_RETRY] + w->n[FATE_COOLDOWN];
  s->snoozed += w->n[FATE_SNOOZE];
  queue_changed(w->t, w->q);
}

/* ---- settle ------------------------------------------------------------- */

static uint64_t count_marked(const settle_req *r, const batch_claim *h) {
  uint64_t n = 0;
  for (size_t i = h->from; i < h->to; i++)
    n += !r->batch->marks[i].settled && r->marks[i].kind;
  return n;
}

/* Is the lease still this batch's? Loads the claim, history copied. */
static bool find_claim(work *w) {
  if (!batch_claim_find(w->t, w->q, w->h, w->r->batch->token, &w->p, &w->c))
    return false;
  w->c.history = w->h->history;
  w->c.memo = w->h->memo;
  return true;
}

static int settle_items(work *w) {
  choose_stay(w);
  int rc = room_to_move(w);
  if (rc) return rc;
  settle_claim(w);
  leave_segments(w);
  park_others(w);
  count(w);
  return 0;
}

static int settle_batch_claim(work *w) {
  size_t n = w->h->to - w->h->from;
  int rc = 0;
  w->ids = malloc(n * (sizeof *w->ids + sizeof *w->fates));
  if (!w->ids) {
    txn_spoil(w->t, RESPOOL_NOMEM);
    return w->t->rc;
  }
  w->fates = (uint8_t *)(w->ids + n);
  find_fates(w);
  if (w->n[FATE_HELD] + w->n[FATE_PAST] < n) /* any marked? */
    rc = settle_items(w);
  free(w->ids);
  return rc;
}

/* Notes which claims are lost, without changing anything in the store. One
   that was found lost before stays so. Returns how many marked items are in
   lost claims; `*fresh` counts those that were not known to be. */
static size_t find_lost(txn *t, queue *q, settle_req *r, size_t *fresh) {
  size_t lost = 0;
  *fresh = 0;
  for (size_t i = 0; i < r->batch->n_claims; i++) {
    batch_claim *h = &r->batch->claims[i];
    work w = {.t = t, .q = q, .r = r, .h = h};
    size_t marked = (size_t)count_marked(r, h);
    if (!h->over) {
      h->lost = marked && !find_claim(&w);
      if (h->lost) *fresh += marked;
    }
    if (h->lost) lost += marked;
  }
  return lost;
}

static int lost_all(const queue *q, size_t lost) {
  return fail(RESPOOL_LEASE_LOST, "the lease of %zu item%s of queue "
              "\"%.120s\" is no longer held", lost, lost == 1 ? "" : "s",
              q->name);
}

int lmdb_settle(txn *t, const char *name, int64_t wall, settle_req *r) {
  int rc = 0;
  respool_batch *batch = r->batch;
  queue *q = queue_find(t, name, &rc);
  if (!q) return rc;
  int64_t now = queue_tick(t, q, wall);
  size_t fresh;
  batch->lost = find_lost(t, q, r, &fresh);
  if (t->rc) return t->rc;
  if (batch->lost && r->strict) return lost_all(q, batch->lost);
  if (batch->observed.count) {
    histogram_merge(&q->counters.handle, &batch->observed);
    queue_changed(t, q);
  }
  if (fresh) {
    q->counters.lease_lost += fresh;
    queue_changed(t, q);
  }
  t->listener = r->notices;
  for (size_t i = 0; i < batch->n_claims && !t->rc && !rc; i++) {
    batch_claim *h = &batch->claims[i];
    work w = {.t = t, .q = q, .r = r, .h = h, .now = now};
    if (!h->over && !h->lost && find_claim(&w)) rc = settle_batch_claim(&w);
  }
  t->listener = NULL;
  return t->rc ? t->rc : rc;
}

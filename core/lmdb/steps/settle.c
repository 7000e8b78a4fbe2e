/* SPDX-License-Identifier: MIT */
/*
 * Settle: the outcome of items. One group of the items of a claim may be kept
 * in place, so that a whole claim moves as one small record and copies nothing:
 * those still leased, else those released, else those that wait equally long
 * for the same reason. Every other item leaves its segment: done and dropped
 * ones for good, dead ones to a dead letter, each that waits to a segment and a
 * claim of its own, under its id.
 */
#include "lmdb/steps/settle.h"

#include "lmdb/dead/dead_letters.h"
#include "lmdb/partition/flow.h"
#include "lmdb/partition/partitions.h"
#include "lmdb/queue/claims.h"
#include "lmdb/queue/history.h"
#include "lmdb/queue/room.h"
#include "lmdb/queue/state.h"
#include "lmdb/queue/unique_key.h"
#include "lmdb/record/blobs.h"
#include "lmdb/record/segments.h"
#include "policy/outcome.h"

#include "base/random.h"

#include <stdlib.h>

/* A segment is kept for waiting items if they are one in so many of its own. */
#define WORTH_KEEPING 4

/* The settling of one claim of a batch. */
typedef struct settling {
  txn *t;
  queue *q;
  settle_req *r;
  const batch_claim *h;
  place p;
  claim c;          /* as stored */
  int64_t now;
  claim_outcomes x;
  enum outcome kept; /* OUTCOME_COUNT: none */
  uint64_t n_kept;   /* items */
  uint64_t *ids;    /* that leave their segments */
  size_t n_ids;
  burial dying;             /* of items that were marked so */
  const mark *dying_mark;   /* NULL: none is */
  const respool_item_about *dying_about;
  const outcome_text *text; /* the text of the last one in `failures` */
  respool_bytes failures; /* the claim's and one more, shared by
                             items that were marked together */
} settling;

/* Is a segment worth keeping for `n` waiting items? Not for a few items of a
   large one; but always where the disk is short of room, as copying them needs
   room at once, while the segment's own is free only after the commit. */
static bool worth_keeping(void *arg, uint64_t n) {
  const settling *w = arg;
  segment_cursor s;
  bool worth = true;
  if (w->p.line.space == SPACE_SOLO) return true;
  segments_open(&s, w->t, &w->p.line, w->r->batch->page.items[w->h->from].id);
  if (segments_next(&s)) worth = s.at.count <= n * WORTH_KEEPING;
  segments_close(&s);
  return worth || disk_is_short(w->t);
}

/* Items of partitions wait each by itself. */
static void choose_kept_outcome(settling *w) {
  if (w->p.line.space == SPACE_PARTED) {
    w->kept = w->x.n[STILL_LEASED] ? STILL_LEASED : OUTCOME_COUNT;
    w->n_kept = w->x.n[STILL_LEASED];
    return;
  }
  w->kept = outcomes_choose_kept(&w->x, worth_keeping, w);
  if (w->kept != OUTCOME_COUNT) w->n_kept = w->x.n[w->kept];
}

/* ---- what a claim becomes ----------------------------------------------- */

static respool_bytes add_failure(settling *w, const mark *m) {
  if (!w->failures.size || m->text != w->text)
    w->failures = failures_with(w->t, &w->r->batch->page.memory, w->c.failures,
                                w->now, m->text);
  w->text = m->text;
  return w->failures;
}

/* A random number only where the delay depends on it. */
static double chance_of(const settling *w, enum outcome o, const mark *m) {
  return (o == OUTCOME_RETRY || o == OUTCOME_EXCUSED) &&
                 m->delay == RESPOOL_KEEP
             ? random_next(w->r->random) : 0;
}

/* The claim as it continues with this outcome. */
static claim requeued_claim(settling *w, enum outcome o, const mark *m) {
  claim c = w->c;
  if (o == STILL_LEASED) return c;
  c.state = CLAIM_WAITING;
  c.token = 0;
  if (m->text && m->text->memo.size) c.memo = m->text->memo;
  if (outcome_adds_failure(o, m)) c.failures = add_failure(w, m);
  int64_t wait = outcome_wait(o, m, &w->q->config, chance_of(w, o, m),
                              &c.attempts, &c.delay);
  c.visible_at = time_after(w->now, wait);
  if (IS_PARTED(&w->p.line) && c.visible_at <= w->now) {
    c.state = CLAIM_PARKED;
    c.visible_at = 0;
  }
  return c;
}

/* An item of a partition is no longer leased. */
static void unlease(settling *w, const line *l, size_t i, enum count to) {
  priority_count(w->t, w->q, l->priority, COUNT_LEASED, to, 1);
  partition_move(w->t, w->q, l, &w->r->batch->page.items[i], COUNT_LEASED, to);
}

/* ---- items that leave their segment ------------------------------------- */

static bool begin_burial(settling *w, size_t i, const mark *m,
                         enum outcome o) {
  death d = {.reason = o == OUTCOME_EXHAUSTED ? "exhausted" : "rejected",
             .items = 1,
             .at = w->now,
             .failures = w->c.failures,
             .attempts = w->c.attempts + 1,
             .deliveries = w->c.deliveries,
             .crashes = w->c.crashes,
             .memo = w->c.memo};
  if (m->text) {
    if (o == OUTCOME_DEAD && m->text->reason) d.reason = m->text->reason;
    d.dlq = m->text->dlq;
    d.group = m->text->group;
    d.error = m->text->error;
    if (m->text->memo.size) d.memo = m->text->memo;
  }
  if (outcome_adds_failure(o, m)) d.failures = add_failure(w, m);
  return burial_begin(w->t, w->q, &d, &w->r->batch->page.items[i], &w->dying);
}

/* Items of a segment that one mark is for die alike: they have the attempts of
   their claim. */
static void dead_letter_item(settling *w, size_t i, const mark *m,
                             enum outcome o) {
  const respool_page *p = &w->r->batch->page;
  const respool_item *it = &p->items[i];
  key_release(w->t, w->q, it, w->now);
  if (w->dying_mark != m || w->dying_about != it->about) {
    w->dying_about = it->about;
    w->dying_mark = begin_burial(w, i, m, o) ? m : NULL;
  }
  if (w->dying_mark) burial_add(w->t, w->q, &w->dying, it->id, p->packed[i]);
}

/* Ends a done or dropped item: frees its blob and its key. */
static void finish_item(settling *w, size_t i, const mark *m, enum outcome o) {
  const respool_page *p = &w->r->batch->page;
  bool keep = o == OUTCOME_DONE && w->q->config.keep_done > 0;
  bool plain = !p->items[i].about->key.size &&
               p->packed[i].size != ITEM_REF_SIZE;
  if (plain && !keep) return;
  blob_ref r = blob_of(p->packed[i]);
  key_release(w->t, w->q, &p->items[i], w->now);
  if (keep)
    history_keep(w->t, w->q, &p->items[i], p->packed[i], outcome_result(m),
                 w->now);
  else if (r.number)
    blob_del(w->t, r.number);
  w->q->bytes -= r.size < w->q->bytes ? r.size : w->q->bytes;
}

/* Moves an item to a segment and a claim of its own, under the same id. */
static void requeue_alone(settling *w, size_t i, const mark *m,
                          enum outcome o) {
  const respool_page *page = &w->r->batch->page;
  place p = {w->p.line, page->items[i].id, 1};
  claim c = requeued_claim(w, o, m);
  p.line.space = IS_PARTED(&p.line) ? SPACE_PARTED_SOLO : SPACE_SOLO;
  c.last = p.first;
  c.left = 1;
  segment_put_one(w->t, w->q, &p, page->packed[i], page->items[i].about);
  claim_put(w->t, &p, &c);
  if (IS_PARTED(&p.line)) unlease(w, &p.line, i, claim_count(&c));
}

static void remove_item(settling *w, size_t i, enum outcome o) {
  const mark *m = outcomes_mark(&w->x, i);
  w->ids[w->n_ids++] = w->r->batch->page.items[i].id;
  if (IS_PARTED(&w->p.line) && !outcome_requeues(o))
    unlease(w, &w->p.line, i, COUNT_NONE);
  if (o == OUTCOME_DONE || o == OUTCOME_DROP)
    finish_item(w, i, m, o);
  else if (o == OUTCOME_DEAD || o == OUTCOME_EXHAUSTED)
    dead_letter_item(w, i, m, o);
}

/* All items leave before any moves to a segment of its own, because a segment
   of one could otherwise be removed after it was written. */
static void remove_from_segments(settling *w) {
  for (size_t i = w->h->from; i < w->h->to; i++) {
    enum outcome o = outcomes_at(&w->x, i);
    if (o != ALREADY_SETTLED && o != w->kept) remove_item(w, i, o);
  }
  segments_settle(w->t, w->q, &w->p.line, w->ids, w->n_ids);
}

static void requeue_others(settling *w) {
  if (w->n_ids == outcomes_ended(&w->x)) return;
  for (size_t i = w->h->from; i < w->h->to && !w->t->rc; i++) {
    enum outcome o = outcomes_at(&w->x, i);
    if (o != w->kept && outcome_requeues(o))
      requeue_alone(w, i, outcomes_mark(&w->x, i), o);
  }
}

/* ---- room for items that are copied ------------------------------------- */

#define COPY_COST                                                              \
  256 /* of keys, a claim or a dead letter's own, a share of
                         pages */

static bool is_copied(const settling *w, enum outcome o) {
  return o == OUTCOME_DEAD || o == OUTCOME_EXHAUSTED ||
         (outcome_requeues(o) && o != w->kept);
}

/* A dead letter stores the error twice: as its reason and in its last failure.
   */
static uint64_t text_size(const outcome_text *y) {
  return y ? 2 * (y->error.size + y->group.size + y->trace.size) : 0;
}

static int room_to_copy(const settling *w) {
  uint64_t more = 0;
  if (w->x.n[OUTCOME_DONE] + w->x.n[OUTCOME_DROP] + w->x.n[ALREADY_SETTLED] +
          w->n_kept ==
      w->h->to - w->h->from)
    return 0;
  for (size_t i = w->h->from; i < w->h->to; i++)
    if (is_copied(w, outcomes_at(&w->x, i)))
      more += w->r->batch->page.packed[i].size + w->c.failures.size +
              text_size(outcomes_mark(&w->x, i)->text) + COPY_COST;
  return disk_copy(w->t, more);
}

/* ---- the claim ---------------------------------------------------------- */

static size_t kept_item(const settling *w) {
  size_t i = w->h->from;
  while (i + 1 < w->h->to && outcomes_at(&w->x, i) != w->kept) i++;
  return i;
}

/* Before any of its items move: one may get the claim's own place. */
static void settle_claim(settling *w) {
  if (!w->n_kept) {
    claim_del(w->t, &w->p, &w->c);
    return;
  }
  size_t i = kept_item(w);
  claim c = requeued_claim(w, w->kept, outcomes_mark(&w->x, i));
  c.left = w->n_kept;
  claim_move(w->t, &w->p, &w->c, &c);
  if (IS_PARTED(&w->p.line) && w->kept != STILL_LEASED)
    unlease(w, &w->p.line, i, claim_count(&c));
}

/* Those of partitions were counted one by one. */
static void count_states(settling *w) {
  int priority = w->p.line.priority;
  if (IS_PARTED(&w->p.line)) return;
  priority_count(w->t, w->q, priority, COUNT_LEASED, COUNT_RETRYING,
                 w->x.n[OUTCOME_RETRY] + w->x.n[OUTCOME_COOLDOWN] +
                     w->x.n[OUTCOME_EXCUSED]);
  priority_count(w->t, w->q, priority, COUNT_LEASED,
                 claim_count_waiting(&w->c),
                 w->x.n[OUTCOME_RELEASE] + w->x.n[OUTCOME_SNOOZE]);
  priority_count(w->t, w->q, priority, COUNT_LEASED, COUNT_NONE,
                 outcomes_ended(&w->x));
}

static void count(settling *w) {
  respool_queue_stats *s = &w->q->counters;
  uint64_t n_dead = w->x.n[OUTCOME_DEAD] + w->x.n[OUTCOME_EXHAUSTED];
  count_states(w);
  s->done += w->x.n[OUTCOME_DONE];
  s->removed += w->x.n[OUTCOME_DROP];
  s->died += n_dead;
  s->released += w->x.n[OUTCOME_RELEASE];
  s->retried += w->x.n[OUTCOME_RETRY] + w->x.n[OUTCOME_COOLDOWN] +
                w->x.n[OUTCOME_EXCUSED];
  s->snoozed += w->x.n[OUTCOME_SNOOZE];
  queue_changed(w->t, w->q);
}

/* ---- settle ------------------------------------------------------------- */

static claim_outcomes outcomes_in(const settle_req *r, const batch_claim *h) {
  return (claim_outcomes){.batch = r->batch, .marks = r->marks, .all = &r->all,
                          .from = h->from, .to = h->to};
}

/* Of a claim: how many of its items are marked, and one bit for each kind. */
static uint64_t count_marked(const settle_req *r, const batch_claim *h,
                             unsigned *kinds) {
  claim_outcomes x = outcomes_in(r, h);
  uint64_t n = 0;
  for (size_t i = h->from; i < h->to; i++) {
    if (outcomes_is_settled(&x, i)) continue;
    int kind = outcomes_mark(&x, i)->kind;
    n += kind != RESPOOL_NONE;
    *kinds |= 1u << kind;
  }
  return n;
}

/* ---- cancelled items ---------------------------------------------------- */

typedef struct lookup {
  txn *t;
  const line *line;
} lookup;

static bool is_there(void *arg, uint64_t id) {
  const lookup *l = arg;
  return count_unsettled(l->t, l->line, id, id) > 0;
}

/* The marked items of a claim that are known to be cancelled. */
static uint64_t count_gone(const settle_req *r, const batch_claim *h) {
  claim_outcomes x = outcomes_in(r, h);
  uint64_t n = 0;
  for (size_t i = h->from; i < h->to && h->gone; i++)
    n += r->batch->marks[i].gone && outcomes_mark(&x, i)->kind;
  return n;
}

/* Notes items of the claim that were cancelled since the take, where it has
   fewer than the batch believes. */
static void find_gone(const settling *w, batch_claim *h) {
  respool_batch *b = w->r->batch;
  lookup l = {w->t, &w->p.line};
  size_t left = 0;
  for (size_t i = h->from; i < h->to; i++)
    left += !b->marks || !b->marks[i].settled;
  if (w->c.left != left || h->gone)
    txn_fail(w->t, batch_note_gone(b, h, is_there, &l));
}

/* Loads the claim, with the failures that the batch has; false when its lease
   is lost. */
static bool find_claim(settling *w) {
  if (!batch_claim_find(w->t, w->q, w->h, w->r->batch->token, &w->p, &w->c))
    return false;
  w->c.failures = w->h->failures;
  w->c.memo = w->h->memo;
  return true;
}

static int settle_items(settling *w) {
  choose_kept_outcome(w);
  int rc = room_to_copy(w);
  if (rc) return rc;
  settle_claim(w);
  remove_from_segments(w);
  requeue_others(w);
  count(w);
  return 0;
}

/* Which failures of a settle that are outages spend no attempt. */
typedef struct excuses {
  enum excuse all;
  const uint8_t *each; /* of each item of the batch, instead; or NULL */
} excuses;

static bool has_partitions(const respool_batch *b) {
  for (size_t i = 0; i < b->n_claims; i++)
    if (b->claims[i].space >= SPACE_PARTED) return true;
  return false;
}

/* Notes marks of these kinds in the flows of the queue and of partitions. */
static excuses note_flows(txn *t, queue *q, int64_t now, unsigned kinds,
                          settle_req *r) {
  bool holds = kinds & 1u << RESPOOL_HOLD;
  excuses x = {EXCUSE_NONE, NULL};
  if (q->config.breaker_failures || holds) x.all = queue_settles(t, q, now, r);
  if ((q->config.partition_breaker_failures || holds) &&
      has_partitions(r->batch))
    x.each = partitions_settle(t, q, now, r, x.all);
  return x;
}

static int settle_batch_claim(settling *w, const excuses *e) {
  size_t n = w->h->to - w->h->from;
  int rc = 0;
  w->ids = malloc(n * (sizeof *w->ids + sizeof *w->x.of));
  if (!w->ids) {
    txn_fail(w->t, RESPOOL_NOMEM);
    return w->t->rc;
  }
  w->x = outcomes_in(w->r, w->h);
  w->x.of = (uint8_t *)(w->ids + n);
  w->x.excuse = e->all;
  w->x.excuses = e->each;
  outcomes_find(&w->x, &w->q->config, w->c.attempts);
  if (w->x.n[STILL_LEASED] + w->x.n[ALREADY_SETTLED] < n) /* any marked? */
    rc = settle_items(w);
  free(w->ids);
  return rc;
}

/* Notes which claims are lost, without changing anything in the store. One
   that was found lost before stays so. Returns how many marked items are in
   lost claims; `*fresh` counts those that were not known to be, `*kinds` gets a
   bit for each kind of a mark. */
static size_t find_lost(txn *t, queue *q, settle_req *r, size_t *fresh,
                        unsigned *kinds) {
  size_t lost = 0;
  *fresh = 0;
  *kinds = 0;
  for (size_t i = 0; i < r->batch->n_claims; i++) {
    batch_claim *h = &r->batch->claims[i];
    settling w = {.t = t, .q = q, .r = r, .h = h};
    size_t marked = (size_t)count_marked(r, h, kinds);
    if (!h->over) {
      size_t known = (size_t)count_gone(r, h);
      h->lost = marked && !find_claim(&w);
      if (h->lost) *fresh += marked;
      if (marked && !h->lost) find_gone(&w, h);
      *fresh += (size_t)count_gone(r, h) - known;
    }
    if (h->lost) lost += marked;
    lost += (size_t)count_gone(r, h);
  }
  return lost;
}

int lmdb_settle(txn *t, const char *name, int64_t wall, settle_req *r) {
  int rc = 0;
  respool_batch *batch = r->batch;
  queue *q = queue_find(t, name, &rc);
  if (!q) return rc;
  int64_t now = queue_advance_clock(t, q, wall);
  size_t fresh;
  unsigned kinds;
  batch->lost = find_lost(t, q, r, &fresh, &kinds);
  if (t->rc) return t->rc;
  if (batch->lost && r->strict) return batch_lost_error(q->name, batch->lost);
  if (batch->observed.count) {
    histogram_merge(&q->counters.handle, &batch->observed);
    queue_changed(t, q);
  }
  if (fresh) {
    q->counters.lease_lost += fresh;
    queue_changed(t, q);
  }
  excuses e = note_flows(t, q, now, kinds, r);
  t->notices_to = r->notices;
  for (size_t i = 0; i < batch->n_claims && !t->rc && !rc; i++) {
    batch_claim *h = &batch->claims[i];
    settling w = {.t = t, .q = q, .r = r, .h = h, .now = now};
    if (!h->over && !h->lost && find_claim(&w)) rc = settle_batch_claim(&w, &e);
  }
  t->notices_to = NULL;
  return t->rc ? t->rc : rc;
}

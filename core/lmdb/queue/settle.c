/* SPDX-License-Identifier: MIT */
/*
 * Settle: the outcome of items. One group of the items of a claim may be kept
 * in place, so that a whole claim moves as one small record and copies nothing:
 * those still leased, else those released, else those that wait equally long
 * for the same reason. Every other item leaves its segment: done and dropped
 * ones for good, dead ones to a dead letter, each that waits to a segment and a
 * claim of its own, under its id.
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

/* A segment is kept for waiting items if they are one in so many of its own. */
#define WORTH_KEEPING 4

/* What becomes of an item, by its mark and the queue's policy and limits. */
enum outcome {
  STILL_LEASED,
  OUTCOME_DONE,
  OUTCOME_DROP,
  OUTCOME_DEAD,
  OUTCOME_EXHAUSTED,
  OUTCOME_RELEASE,
  OUTCOME_RETRY,
  OUTCOME_SNOOZE,
  OUTCOME_COOLDOWN,
  ALREADY_SETTLED,
  OUTCOME_COUNT
};

/* The settling of one claim of a batch. */
typedef struct settling {
  txn *t;
  queue *q;
  settle_req *r;
  const batch_claim *h;
  place p;
  claim c;          /* as stored */
  int64_t now;
  enum outcome kept; /* OUTCOME_COUNT: none */
  uint64_t n_kept;   /* items */
  uint64_t n[OUTCOME_COUNT];
  uint8_t *outcomes; /* of each item of the claim */
  uint64_t *ids;    /* that leave their segments */
  size_t n_ids;
  const outcome_text *text; /* the text of the last one in `failures` */
  respool_bytes failures; /* the claim's and one more, shared by
                             items that were marked together */
} settling;

static const mark *mark_in(const settle_req *r, size_t i) {
  return r->marks ? &r->marks[i] : &r->all;
}

static bool is_settled(const settle_req *r, size_t i) {
  return r->batch->marks && r->batch->marks[i].settled;
}

static const mark *mark_of(const settling *w, size_t i) {
  return mark_in(w->r, i);
}

/* ---- outcomes ----------------------------------------------------------- */

static enum outcome outcome_of_failure(const settling *w) {
  const queue_config *c = &w->q->config;
  if (w->c.attempts + 1 < (uint64_t)c->max_attempts) return OUTCOME_RETRY;
  if (c->on_exhausted == RESPOOL_LIMIT_DROP) return OUTCOME_DROP;
  return c->on_exhausted == RESPOOL_LIMIT_COOLDOWN ? OUTCOME_COOLDOWN
                                                   : OUTCOME_EXHAUSTED;
}

static enum outcome outcome_of(const settling *w, const mark *m) {
  switch (m->kind) {
    case RESPOOL_DONE: return OUTCOME_DONE;
    case RESPOOL_RETRY: return outcome_of_failure(w);
    case RESPOOL_RELEASE: return OUTCOME_RELEASE;
    case RESPOOL_SNOOZE: return OUTCOME_SNOOZE;
    case RESPOOL_DEAD: return OUTCOME_DEAD;
    case RESPOOL_DROP: return OUTCOME_DROP;
    default: return STILL_LEASED;
  }
}

static void find_outcomes(settling *w) {
  for (size_t i = w->h->from; i < w->h->to; i++) {
    enum outcome o = is_settled(w->r, i) ? ALREADY_SETTLED
                                         : outcome_of(w, mark_of(w, i));
    w->outcomes[i - w->h->from] = (uint8_t)o;
    w->n[o]++;
  }
}

static enum outcome outcome_at(const settling *w, size_t i) {
  return w->outcomes[i - w->h->from];
}

/* Do all items of this outcome have the same text and delay? */
static bool same_reason_and_delay(const settling *w, enum outcome o) {
  const mark *one = NULL;
  for (size_t i = w->h->from; i < w->h->to; i++) {
    const mark *m = mark_of(w, i);
    if (outcome_at(w, i) != o) continue;
    if (one && (m->text != one->text || m->delay != one->delay)) return false;
    one = m;
  }
  return true;
}

/* Released items stay together unless one has a memo of its own: a claim has
   one memo for all its items. */
static bool releases_keep_memo(const settling *w) {
  for (size_t i = w->h->from; i < w->h->to; i++) {
    const mark *m = mark_of(w, i);
    if (outcome_at(w, i) == OUTCOME_RELEASE && m->text && m->text->memo.size)
      return false;
  }
  return true;
}

/* Is a segment worth keeping for `n` waiting items? Not for a few items of a
   large one; but always where the disk is short of room, as copying them needs
   room at once, while the segment's own is free only after the commit. */
static bool worth_keeping(const settling *w, uint64_t n) {
  segment_cursor s;
  bool worth = true;
  if (w->p.line.space == SPACE_SOLO) return true;
  segments_open(&s, w->t, &w->p.line, w->r->batch->page.items[w->h->from].id);
  if (segments_next(&s)) worth = s.at.count <= n * WORTH_KEEPING;
  segments_close(&s);
  return worth || disk_is_short(w->t);
}

static void choose_kept_outcome(settling *w) {
  static const enum outcome waiting[] = {OUTCOME_RETRY, OUTCOME_SNOOZE,
                                         OUTCOME_COOLDOWN};
  w->kept = w->n[STILL_LEASED] ? STILL_LEASED : OUTCOME_COUNT;
  if (w->kept == OUTCOME_COUNT && w->n[OUTCOME_RELEASE] &&
      releases_keep_memo(w))
    w->kept = OUTCOME_RELEASE;
  for (size_t i = 0; i < 3 && w->kept == OUTCOME_COUNT; i++) {
    enum outcome o = waiting[i];
    if (w->n[o] && same_reason_and_delay(w, o) && worth_keeping(w, w->n[o]))
      w->kept = o;
  }
  if (w->kept != OUTCOME_COUNT) w->n_kept = w->n[w->kept];
}

/* ---- what a claim becomes ----------------------------------------------- */

static int64_t retry_delay(const settling *w, const mark *m) {
  if (m->delay != RESPOOL_KEEP) return m->delay;
  return respool_backoff_delay(&w->q->config.backoff, w->c.attempts + 1,
                               w->c.delay, random_next(w->r->random));
}

static respool_bytes add_failure(settling *w, const mark *m) {
  if (!w->failures.size || m->text != w->text)
    w->failures = failures_with(w->t, &w->r->batch->page.memory, w->c.failures,
                                w->now, m->text);
  w->text = m->text;
  return w->failures;
}

/* The claim as it continues with this outcome. */
static claim requeued_claim(settling *w, enum outcome o, const mark *m) {
  claim c = w->c;
  int64_t delay = 0;
  if (o == STILL_LEASED) return c;
  c.state = CLAIM_WAITING;
  c.token = 0;
  if (m->text && m->text->memo.size) c.memo = m->text->memo;
  if (o == OUTCOME_RETRY) {
    delay = c.delay = retry_delay(w, m);
    c.attempts++;
    c.failures = add_failure(w, m);
  } else if (o == OUTCOME_COOLDOWN) {
    delay = w->q->config.cooldown;
    c.attempts = 0;
    c.delay = 0;
    c.failures = add_failure(w, m);
  } else if (o == OUTCOME_SNOOZE)
    delay = m->delay;
  c.visible_at = time_after(w->now, delay);
  return c;
}

/* ---- items that leave their segment ------------------------------------- */

static void dead_letter_item(settling *w, size_t i, const mark *m,
                             enum outcome o) {
  const respool_page *p = &w->r->batch->page;
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
  if (d.error.size || o == OUTCOME_EXHAUSTED) d.failures = add_failure(w, m);
  key_release(w->t, w->q, &p->items[i], w->now);
  dlq_add(w->t, w->q, &d, &p->items[i], p->packed[i]);
}

/* Ends a done or dropped item: frees its blob and its key. */
static void finish_item(settling *w, size_t i, enum outcome o) {
  const respool_page *p = &w->r->batch->page;
  bool keep = o == OUTCOME_DONE && w->q->config.keep_done > 0;
  bool plain = !p->items[i].key.size && p->packed[i].size != ITEM_REF_SIZE;
  if (plain && !keep) return;
  blob_ref r = blob_of(p->packed[i]);
  key_release(w->t, w->q, &p->items[i], w->now);
  if (keep)
    history_keep(w->t, w->q, &p->items[i], p->packed[i], w->now);
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
  p.line.space = SPACE_SOLO;
  c.last = p.first;
  c.left = 1;
  segment_put_one(w->t, w->q, &p, page->packed[i], &page->items[i]);
  claim_put(w->t, &p, &c);
}

static void remove_item(settling *w, size_t i, enum outcome o) {
  const mark *m = mark_of(w, i);
  w->ids[w->n_ids++] = w->r->batch->page.items[i].id;
  if (o == OUTCOME_DONE || o == OUTCOME_DROP)
    finish_item(w, i, o);
  else if (o == OUTCOME_DEAD || o == OUTCOME_EXHAUSTED)
    dead_letter_item(w, i, m, o);
}

/* All items leave before any moves to a segment of its own, because a segment
   of one could otherwise be removed after it was written. */
static void remove_from_segments(settling *w) {
  for (size_t i = w->h->from; i < w->h->to; i++) {
    enum outcome o = outcome_at(w, i);
    if (o != ALREADY_SETTLED && o != w->kept) remove_item(w, i, o);
  }
  segments_settle(w->t, w->q, &w->p.line, w->ids, w->n_ids);
}

static bool is_requeued(enum outcome o) {
  return o == OUTCOME_RELEASE || o == OUTCOME_RETRY || o == OUTCOME_SNOOZE ||
         o == OUTCOME_COOLDOWN;
}

/* The number of items that are done, dropped or dead. */
static uint64_t n_ended(const settling *w) {
  return w->n[OUTCOME_DONE] + w->n[OUTCOME_DROP] + w->n[OUTCOME_DEAD] +
         w->n[OUTCOME_EXHAUSTED];
}

static void requeue_others(settling *w) {
  if (w->n_ids == n_ended(w)) return;
  for (size_t i = w->h->from; i < w->h->to && !w->t->rc; i++) {
    enum outcome o = outcome_at(w, i);
    if (o != w->kept && is_requeued(o)) requeue_alone(w, i, mark_of(w, i), o);
  }
}

/* ---- room for items that are copied ------------------------------------- */

#define COPY_COST                                                              \
  256 /* of keys, a claim or a dead letter's own, a share of
                         pages */

static bool is_copied(const settling *w, enum outcome o) {
  return o == OUTCOME_DEAD || o == OUTCOME_EXHAUSTED ||
         (is_requeued(o) && o != w->kept);
}

/* A dead letter stores the error twice: as its reason and in its last failure.
   */
static uint64_t text_size(const outcome_text *y) {
  return y ? 2 * (y->error.size + y->group.size + y->trace.size) : 0;
}

static int room_to_copy(const settling *w) {
  uint64_t more = 0;
  if (w->n[OUTCOME_DONE] + w->n[OUTCOME_DROP] + w->n[ALREADY_SETTLED] +
          w->n_kept ==
      w->h->to - w->h->from)
    return 0;
  for (size_t i = w->h->from; i < w->h->to; i++)
    if (is_copied(w, outcome_at(w, i)))
      more += w->r->batch->page.packed[i].size + w->c.failures.size +
              text_size(mark_of(w, i)->text) + COPY_COST;
  return disk_copy(w->t, more);
}

/* ---- the claim ---------------------------------------------------------- */

static const mark *kept_mark(const settling *w) {
  for (size_t i = w->h->from; i < w->h->to; i++)
    if (outcome_at(w, i) == w->kept) return mark_of(w, i);
  return NULL;
}

/* Before any of its items move: one may get the claim's own place. */
static void settle_claim(settling *w) {
  if (!w->n_kept) {
    claim_del(w->t, &w->p, &w->c);
    return;
  }
  claim c = requeued_claim(w, w->kept, kept_mark(w));
  c.left = w->n_kept;
  claim_move(w->t, &w->p, &w->c, &c);
}

static void count(settling *w) {
  respool_queue_stats *s = &w->q->counters;
  int priority = w->p.line.priority;
  uint64_t n_dead = w->n[OUTCOME_DEAD] + w->n[OUTCOME_EXHAUSTED];
  priority_count(w->t, w->q, priority, COUNT_LEASED, COUNT_RETRYING,
                 w->n[OUTCOME_RETRY] + w->n[OUTCOME_COOLDOWN]);
  priority_count(w->t, w->q, priority, COUNT_LEASED,
                 claim_count_waiting(&w->c),
                 w->n[OUTCOME_RELEASE] + w->n[OUTCOME_SNOOZE]);
  priority_count(w->t, w->q, priority, COUNT_LEASED, COUNT_NONE, n_ended(w));
  s->done += w->n[OUTCOME_DONE];
  s->removed += w->n[OUTCOME_DROP];
  s->died += n_dead;
  s->released += w->n[OUTCOME_RELEASE];
  s->retried += w->n[OUTCOME_RETRY] + w->n[OUTCOME_COOLDOWN];
  s->snoozed += w->n[OUTCOME_SNOOZE];
  queue_changed(w->t, w->q);
}

/* ---- settle ------------------------------------------------------------- */

static uint64_t count_marked(const settle_req *r, const batch_claim *h) {
  uint64_t n = 0;
  for (size_t i = h->from; i < h->to; i++)
    n += !is_settled(r, i) && mark_in(r, i)->kind;
  return n;
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

static int settle_batch_claim(settling *w) {
  size_t n = w->h->to - w->h->from;
  int rc = 0;
  w->ids = malloc(n * (sizeof *w->ids + sizeof *w->outcomes));
  if (!w->ids) {
    txn_fail(w->t, RESPOOL_NOMEM);
    return w->t->rc;
  }
  w->outcomes = (uint8_t *)(w->ids + n);
  find_outcomes(w);
  if (w->n[STILL_LEASED] + w->n[ALREADY_SETTLED] < n) /* any marked? */
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
    settling w = {.t = t, .q = q, .r = r, .h = h};
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
  int64_t now = queue_advance_clock(t, q, wall);
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
  t->notices_to = r->notices;
  for (size_t i = 0; i < batch->n_claims && !t->rc && !rc; i++) {
    batch_claim *h = &batch->claims[i];
    settling w = {.t = t, .q = q, .r = r, .h = h, .now = now};
    if (!h->over && !h->lost && find_claim(&w)) rc = settle_batch_claim(&w);
  }
  t->notices_to = NULL;
  return t->rc ? t->rc : rc;
}

/* SPDX-License-Identifier: MIT */
/*
 * Delivering: items of a claim that is due, or new items from the head of a
 * priority, go to the batch of a take, and a claim with the take's token covers
 * them.
 *
 * A claim whose lease ran out has crashed. It comes alone, and is delivered in
 * halves, so that after a few crashes a poisonous item is by itself; only then
 * its crashes count against the limit, and its neighbours, delivered without
 * it, are free of blame.
 */
#include "lmdb/queue/deliver.h"

#include "lmdb/queue/claims.h"
#include "lmdb/queue/end_items.h"
#include "lmdb/queue/room.h"
#include "lmdb/queue/state.h"

#define EXPECT_MAX 65536 /* items */

static uint64_t room_left(const grab *g) {
  return g->cap - g->batch->page.n;
}

bool grab_full(const grab *g) {
  return g->full || g->t->rc || room_left(g) == 0;
}

/* Makes room at once for as many as may come, instead of step by step. */
static void expect_items(grab *g, uint64_t want, uint64_t there) {
  uint64_t n = want < there ? want : there;
  if (n < EXPECT_MAX) page_reserve(&g->batch->page, n);
}

/* What a range of ids gave. */
typedef struct yield {
  size_t from;    /* its first item in the batch */
  uint64_t got;
  uint64_t bytes; /* of bodies */
  uint64_t lost;  /* expired or damaged, dealt with */
  uint64_t last;  /* id that was passed last; 0: none */
  bool all;       /* nothing unsettled is left in the range */
} yield;

static catch catch_from(grab *g, const line *l, uint64_t from, uint64_t upto,
                        uint64_t want) {
  catch c = {.page = &g->batch->page, .line = *l, .from = from, .upto = upto,
             .want = want, .bytes = g->r->bytes, .weight = g->weight,
             .now = g->now};
  return c;
}

/* Deals with what stopped a catch; false when there is no room for that. */
static bool clear_way(grab *g, catch *c, int what, const claim *of,
                      yield *y) {
  if (what == CATCH_EXPIRED) g->rc = expiry_room(g->t, g->q, &c->at);
  if (g->rc) {
    g->full = true;
    return false;
  }
  y->lost += catch_lose(g->t, g->q, c, what, of);
  return true;
}

/* Catches up to `want` items of a range, dealing with what is in the way.
   `of` is the claim they were in, if any. */
static yield catch_items(grab *g, const line *l, uint64_t from,
                         uint64_t upto, uint64_t want, const claim *of) {
  yield y = {.from = g->batch->page.n};
  catch c = catch_from(g, l, from, upto, want);
  int what;
  do
    what = items_catch(g->t, &c);
  while (!g->t->rc && what != CATCH_END && what != CATCH_FULL &&
         clear_way(g, &c, what, of, &y));
  y.bytes = c.weight - g->weight;
  g->weight = c.weight;
  y.got = c.got;
  y.last = c.last;
  y.all = what == CATCH_END;
  if (what == CATCH_FULL && c.got < want) g->full = true; /* by weight */
  return y;
}

static void fill_items(grab *g, const yield *y, const batch_claim *h) {
  respool_bytes error = history_error(h->history);
  for (size_t i = y->from; i < g->batch->page.n; i++) {
    respool_item *out = &g->batch->page.items[i];
    out->attempts = h->attempts;
    out->deliveries = h->deliveries;
    out->crashes = h->crashes;
    out->error = error;
    out->memo = h->memo;
    out->visible_at = g->until;
    out->state = RESPOOL_LEASED;
  }
}

/* How long items waited for their first delivery; those of a segment, which
   were pushed together, are counted together. */
static void note_waits(grab *g, const yield *y) {
  const respool_page *p = &g->batch->page;
  for (size_t i = y->from, n; i < p->n; i += n) {
    int64_t waited = g->now - p->items[i].pushed_at;
    for (n = 1; i + n < p->n; n++)
      if (p->items[i + n].pushed_at != p->items[i].pushed_at) break;
    histogram_add(&g->q->counters.wait,
                  waited > 0 ? (uint64_t)waited * 1000 : 0, n);
  }
}

/* The batch holds what became of the claim. */
static void add_claim(grab *g, const place *p, const claim *c,
                     const yield *y) {
  batch_claim *h = batch_add_claim(g->batch);
  if (!h) {
    txn_spoil(g->t, RESPOOL_NOMEM);
    return;
  }
  *h = (batch_claim){.queue = p->line.queue, .space = p->line.space,
              .priority = p->line.priority, .first = p->first,
              .from = y->from, .to = g->batch->page.n,
              .attempts = c->attempts, .crashes = c->crashes,
              .deliveries = c->deliveries, .delay = c->delay};
  txn_spoil(g->t, arena_copy(&g->batch->page.memory, c->history,
                             &h->history));
  txn_spoil(g->t, arena_copy(&g->batch->page.memory, c->memo, &h->memo));
  fill_items(g, y, h);
  g->q->counters.delivered += y->got;
  g->q->counters.delivered_bytes += y->bytes;
  if (c->deliveries == 1) note_waits(g, y);
  queue_changed(g->t, g->q);
}

/* Gives a claim this take's token and lease. */
static claim leased(const grab *g, const claim *c, const yield *y) {
  claim out = *c;
  out.last = y->last;
  out.left = y->got;
  out.state = CLAIM_LEASED;
  out.token = g->batch->token;
  out.visible_at = g->until;
  out.deliveries++;
  return out;
}

static bool load_claim(grab *g, const place *p, claim *c) {
  if (!claim_get(g->t, p, c)) return false;
  claim_own(g->t, &g->batch->page.memory, c);
  return !g->t->rc;
}

/* A lease that ran out: nobody said how it went. */
static void note_crash(grab *g, claim *c, int priority) {
  static const why ran_out = {.error = {"the lease ran out", 17}};
  c->history = history_with(g->t, &g->batch->page.memory, c->history,
                            c->visible_at, &ran_out);
  claim_lapse(g->t, g->q, priority, c);
}

/* A single item at the limit of crashes becomes a dead letter. */
static void bury_crashed(grab *g, const place *p, const claim *old,
                         const claim *c) {
  yield y = catch_items(g, &p->line, p->first, c->last, 1, c);
  death d = {.reason = "crashed", .items = 1, .at = g->now,
             .history = c->history, .error = history_error(c->history),
             .attempts = c->attempts, .deliveries = c->deliveries,
             .crashes = c->crashes};
  bury_page(g->t, g->q, &p->line, &g->batch->page, y.from, &d);
  g->batch->page.n = y.from;
  g->q->counters.died += y.got;
  priority_count(g->t, g->q, p->line.priority, COUNT_WAITING, COUNT_NONE,
                 c->left);
  claim_del(g->t, p, old);
}

/* What of a claim was not handed out goes on as a claim of its own. */
static void put_rest(grab *g, const place *p, const claim *old,
                     const claim *c, const yield *y, uint64_t rest) {
  bool crashed = old->state == CLAIM_LEASED;
  place q = {p->line, y->last + 1, 0};
  claim r = *c;
  r.left = rest;
  if (crashed) r.visible_at = g->now;
  claim_put(g->t, &q, &r);
}

/* Nothing of it could be handed out: all lost, or the next is too heavy. */
static void keep_claim(grab *g, const place *p, const claim *old, claim *c,
                       uint64_t rest) {
  if (rest == 0) {
    claim_del(g->t, p, old);
    return;
  }
  c->left = rest;
  if (old->state == CLAIM_LEASED) c->visible_at = g->now;
  claim_move(g->t, p, old, c);
}

/* Hands out up to `want` items of a claim, which is `old` in the store and
   not leased any more in `c`. */
static void grab_claim(grab *g, const place *p, const claim *old, claim *c,
                       uint64_t upto, uint64_t want) {
  int priority = p->line.priority;
  expect_items(g, want, c->left);
  yield y = catch_items(g, &p->line, p->first, upto, want, c);
  if (g->t->rc) return;
  uint64_t gone = y.got + y.lost;
  uint64_t rest = (y.all && upto == c->last) || gone >= c->left
                      ? 0 : c->left - gone;
  priority_count(g->t, g->q, priority, COUNT_WAITING, COUNT_NONE,
             c->left - rest - y.got);
  priority_count(g->t, g->q, priority, COUNT_WAITING, COUNT_LEASED, y.got);
  if (y.got == 0) {
    keep_claim(g, p, old, c, rest);
    return;
  }
  claim now = leased(g, c, &y);
  claim_move(g->t, p, old, &now);
  if (rest) put_rest(g, p, old, c, &y, rest);
  add_claim(g, p, &now, &y);
}

bool grab_claim_due(grab *g, const place *p, uint64_t upto) {
  claim old, c;
  if (!load_claim(g, p, &old)) return false;
  bool crashed = old.state == CLAIM_LEASED;
  bool alone = crashed || old.crashes > 0;
  if (alone && g->batch->page.n > 0) {
    g->full = true;
    return false;
  }
  c = old;
  if (crashed) note_crash(g, &c, p->line.priority);
  if (crashed && c.left == 1 &&
      c.crashes >= (uint64_t)g->q->config.max_crashes) {
    bury_crashed(g, p, &old, &c);
    return true;
  }
  uint64_t want = crashed ? (c.left + 1) / 2 : c.left;
  if (want > room_left(g)) want = room_left(g);
  grab_claim(g, p, &old, &c, upto < c.last ? upto : c.last, want);
  if (alone && g->batch->page.n > 0) g->full = true;
  return true;
}

void grab_fresh(grab *g, int priority, uint64_t upto) {
  priority_state *l = queue_priority(g->q, priority);
  if (grab_full(g) || !l || l->ready == 0) return;
  line here = {g->q->id, SPACE_READY, priority};
  expect_items(g, room_left(g), l->ready);
  yield y = catch_items(g, &here, l->head, upto, room_left(g), NULL);
  if (g->t->rc) return;
  priority_count(g->t, g->q, priority, COUNT_READY, COUNT_NONE, y.lost);
  if (y.last) l->head = y.last + 1;
  if (y.got == 0) return;
  static const claim fresh;
  claim c = leased(g, &fresh, &y);
  place p = {here, g->batch->page.items[y.from].id, 0};
  priority_count(g->t, g->q, priority, COUNT_READY, COUNT_LEASED, y.got);
  claim_put(g->t, &p, &c);
  add_claim(g, &p, &c, &y);
}

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
#include "lmdb/steps/deliver.h"

#include "lmdb/queue/claims.h"
#include "lmdb/queue/room.h"
#include "lmdb/queue/state.h"
#include "lmdb/unit/end_items.h"

#define EXPECT_MAX 65536 /* items */

static uint64_t room_left(const take_run *run) {
  return run->cap - run->batch->page.n;
}

bool take_is_full(const take_run *run) {
  return run->full || run->t->rc || room_left(run) == 0;
}

/* Allocates room for all items that may come, instead of step by step. */
static void expect_items(take_run *run, uint64_t want, uint64_t there) {
  uint64_t n = want < there ? want : there;
  if (n < EXPECT_MAX) page_reserve(&run->batch->page, n);
}

/* The result of reading a range of ids. */
typedef struct range_result {
  size_t from;    /* its first item in the batch */
  uint64_t n;
  uint64_t bytes; /* of bodies */
  uint64_t lost;  /* expired or damaged, now ended */
  uint64_t last;  /* the last id passed; 0: none */
  bool all;       /* nothing unsettled is left in the range */
} range_result;

/* The fields that the delivered items share; `of` is the claim they were in, if
   any. */
static respool_item_about common(const take_run *run, const claim *of) {
  static const claim none;
  const claim *c = of ? of : &none;
  return (respool_item_about){
    .attempts = c->attempts, .deliveries = c->deliveries + 1,
    .crashes = c->crashes, .error = failures_error(c->failures),
    .memo = c->memo, .visible_at = run->until, .state = RESPOOL_LEASED,
    .worker = run->r->worker};
}

static item_reader reader_of(take_run *run, const line *l, uint64_t from,
                             uint64_t upto, uint64_t want, const claim *of) {
  item_reader c = {.page = &run->batch->page,
                   .line = *l,
                   .like = common(run, of),
                   .from = from,
                   .upto = upto,
                   .want = want,
                   .bytes = run->r->bytes,
                   .weight = run->weight,
                   .now = run->now};
  return c;
}

/* Ends the items that stopped the reader; false when there is no room for
   their dead letters. */
static bool clear_way(take_run *run, item_reader *c, int what, const claim *of,
                      range_result *got) {
  if (what == READ_EXPIRED) run->rc = expiry_room(run->t, run->q, &c->at);
  if (run->rc) {
    run->full = true;
    return false;
  }
  got->lost += end_unreadable(run->t, run->q, c, what, of);
  return true;
}

/* Reads up to `want` items of a range into the batch, and ends those that
   expired or are damaged. */
static range_result deliver_range(take_run *run, const line *l, uint64_t from,
                                  uint64_t upto, uint64_t want,
                                  const claim *of) {
  range_result got = {.from = run->batch->page.n};
  item_reader c = reader_of(run, l, from, upto, want, of);
  int what;
  do
    what = read_items(run->t, &c);
  while (!run->t->rc && what != READ_END && what != READ_FULL &&
         clear_way(run, &c, what, of, &got));
  got.bytes = c.weight - run->weight;
  run->weight = c.weight;
  got.n = c.got;
  got.last = c.last;
  got.all = what == READ_END;
  if (what == READ_FULL && c.got < want) run->full = true; /* by weight */
  return got;
}

/* How long items waited for their first delivery; those of a segment, which
   were pushed together, are counted together. */
static void note_waits(take_run *run, const range_result *got) {
  const respool_page *p = &run->batch->page;
  size_t to = got->from + got->n;
  for (size_t i = got->from, n; i < to; i += n) {
    int64_t pushed_at = p->items[i].about->pushed_at;
    int64_t waited = run->now - pushed_at;
    for (n = 1; i + n < to; n++)
      if (p->items[i + n].about->pushed_at != pushed_at) break;
    histogram_add(&run->q->counters.wait,
                  waited > 0 ? (uint64_t)waited * 1000 : 0, n);
  }
}

/* Adds a claim with its new lease to the batch, whose memory its failures and
   memo are in. */
static void add_claim(take_run *run, const place *p, const claim *c,
                      const range_result *got) {
  batch_claim *h = batch_add_claim(run->batch);
  if (!h) {
    txn_fail(run->t, RESPOOL_NOMEM);
    return;
  }
  *h = (batch_claim){.queue = p->line.queue,
                     .space = p->line.space,
                     .priority = p->line.priority,
                     .first = p->first,
                     .from = got->from,
                     .to = got->from + got->n,
                     .attempts = c->attempts,
                     .crashes = c->crashes,
                     .deliveries = c->deliveries,
                     .delay = c->delay,
                     .failures = c->failures,
                     .memo = c->memo};
  run->q->counters.delivered += got->n;
  run->q->counters.delivered_bytes += got->bytes;
  if (c->deliveries == 1) note_waits(run, got);
  queue_changed(run->t, run->q);
}

/* Gives a claim this take's token and lease. */
static claim leased(const take_run *run, const claim *c,
                    const range_result *got) {
  claim out = *c;
  out.last = got->last;
  out.left = got->n;
  out.state = CLAIM_LEASED;
  out.token = run->batch->token;
  out.visible_at = run->until;
  out.deliveries++;
  return out;
}

/* A damaged claim that is due first is made anew. */
static bool mend_claim(take_run *run, const place *p, claim *c) {
  due_key d;
  return claim_first_due(run->t, run->q, p->line.priority, &d) &&
         same_line(&d.claim.line, &p->line) && d.claim.first == p->first &&
         claim_mend(run->t, run->q, &d, c);
}

bool take_load_claim(take_run *run, const place *p, claim *c) {
  if (!claim_look(run->t, p, c) && !mend_claim(run, p, c)) return false;
  claim_own(run->t, &run->batch->page.memory, c);
  return !run->t->rc;
}

/* A single item at the limit of crashes becomes a dead letter, whatever the
   batch has room for. */
static void dead_letter_crashed(take_run *run, const place *p, const claim *old,
                                const claim *c) {
  respool_page page;
  page_init(&page);
  item_reader r = {.page = &page, .line = p->line, .from = p->first,
                   .upto = c->last, .want = 1};
  int what;
  while ((what = read_items(run->t, &r)) == READ_BAD_ITEM ||
         what == READ_DAMAGED)
    end_unreadable(run->t, run->q, &r, what, c);
  death d = {.reason = "crashed",
             .items = 1,
             .at = run->now,
             .failures = c->failures,
             .error = failures_error(c->failures),
             .attempts = c->attempts,
             .deliveries = c->deliveries,
             .crashes = c->crashes};
  dead_letter_page(run->t, run->q, &p->line, &page, 0, &d);
  run->q->counters.died += page.n;
  priority_count(run->t, run->q, p->line.priority, claim_count(c), COUNT_NONE,
                 c->left);
  claim_del(run->t, p, old);
  page_clear(&page);
}

/* The items of a claim that were not delivered become a new claim. */
static void put_rest(take_run *run, const place *p, const claim *old,
                     const claim *c, const range_result *got, uint64_t rest) {
  bool crashed = old->state == CLAIM_LEASED;
  place q = {p->line, got->last + 1, 0};
  claim r = *c;
  r.left = rest;
  if (crashed) r.visible_at = run->now;
  claim_put(run->t, &q, &r);
}

/* No item was delivered: all were expired or damaged, or the next one exceeds
   the byte limit. */
static void keep_claim(take_run *run, const place *p, const claim *old,
                       claim *c, uint64_t rest) {
  if (rest == 0) {
    claim_del(run->t, p, old);
    return;
  }
  c->left = rest;
  if (old->state == CLAIM_LEASED) c->visible_at = run->now;
  claim_move(run->t, p, old, c);
}

/* Delivers up to `want` items of a claim, which is `old` in the store and no
   longer leased in `c`. */
static void deliver_claim(take_run *run, const place *p, const claim *old,
                          claim *c, uint64_t upto, uint64_t want) {
  int priority = p->line.priority;
  expect_items(run, want, c->left);
  range_result got = deliver_range(run, &p->line, p->first, upto, want, c);
  if (run->t->rc) return;
  uint64_t gone = got.n + got.lost;
  uint64_t rest =
      (got.all && upto == c->last) || gone >= c->left ? 0 : c->left - gone;
  priority_count(run->t, run->q, priority, claim_count(c), COUNT_NONE,
                 c->left - rest - got.n);
  priority_count(run->t, run->q, priority, claim_count(c), COUNT_LEASED, got.n);
  if (got.n == 0) {
    keep_claim(run, p, old, c, rest);
    return;
  }
  claim now = leased(run, c, &got);
  claim_move(run->t, p, old, &now);
  if (rest) put_rest(run, p, old, c, &got, rest);
  add_claim(run, p, &now, &got);
}

bool take_ends_crashed(take_run *run, const place *p, const claim *old,
                       const claim *c) {
  if (c->left != 1 || c->crashes < (uint64_t)run->q->config.max_crashes)
    return false;
  dead_letter_crashed(run, p, old, c);
  return true;
}

bool deliver_due_claim(take_run *run, const place *p, uint64_t upto) {
  claim old, c;
  if (!take_load_claim(run, p, &old)) return false;
  bool crashed = old.state == CLAIM_LEASED;
  bool alone = crashed || old.crashes > 0;
  if (alone && run->batch->page.n > 0) {
    run->full = true;
    return false;
  }
  c = old;
  if (crashed)
    claim_lapse(run->t, run->q, p->line.priority, &run->batch->page.memory, &c);
  if (crashed && take_ends_crashed(run, p, &old, &c)) return true;
  uint64_t want = crashed ? (c.left + 1) / 2 : c.left;
  if (want > room_left(run)) want = room_left(run);
  deliver_claim(run, p, &old, &c, upto < c.last ? upto : c.last, want);
  if (alone && run->batch->page.n > 0) run->full = true;
  return true;
}

void deliver_new_items(take_run *run, int priority, uint64_t upto) {
  priority_state *l = queue_priority(run->q, priority);
  if (take_is_full(run) || !l || l->ready == 0) return;
  line here = {run->q->id, SPACE_READY, priority};
  expect_items(run, room_left(run), l->ready);
  range_result got =
      deliver_range(run, &here, l->head, upto, room_left(run), NULL);
  if (run->t->rc) return;
  priority_count(run->t, run->q, priority, COUNT_READY, COUNT_NONE, got.lost);
  if (got.last) l->head = got.last + 1;
  if (got.n == 0) return;
  static const claim none;
  claim c = leased(run, &none, &got);
  place p = {here, run->batch->page.items[got.from].id, 0};
  priority_count(run->t, run->q, priority, COUNT_READY, COUNT_LEASED, got.n);
  claim_put(run->t, &p, &c);
  add_claim(run, &p, &c, &got);
}

/* ---- items of partitions ------------------------------------------------ */

void deliver_parked(take_run *run, const place *p) {
  claim old, c;
  if (!take_load_claim(run, p, &old)) return;
  c = old;
  deliver_claim(run, p, &old, &c, c.last, 1);
  if (c.crashes && run->batch->page.n) run->full = true;
}

/* Claims for items [from, n) of the batch: one for those that follow one
   another. */
static void claim_runs(take_run *run, const line *l, size_t from) {
  static const claim none;
  const respool_page *b = &run->batch->page;
  for (size_t i = from, n; i < b->n && !run->t->rc; i += n) {
    range_result got = {.from = i};
    for (n = 0; i + n < b->n && b->items[i + n].id == b->items[i].id + n; n++)
      got.bytes += b->items[i + n].body.size;
    got.n = n;
    got.last = b->items[i].id + n - 1;
    claim c = leased(run, &none, &got);
    place p = {*l, b->items[i].id, 0};
    claim_put(run->t, &p, &c);
    add_claim(run, &p, &c, &got);
  }
}

void deliver_ids(take_run *run, const line *l, const uint64_t *ids, size_t n) {
  expect_items(run, n, n);
  range_result got = {.from = run->batch->page.n};
  item_reader c = reader_of(run, l, ids[0], ids[n - 1], n, NULL);
  int what;
  c.only = ids;
  c.n_only = n;
  do
    what = read_items(run->t, &c);
  while (!run->t->rc && what != READ_END && what != READ_FULL &&
         clear_way(run, &c, what, NULL, &got));
  run->weight = c.weight;
  if (what == READ_FULL && c.got < n) run->full = true; /* by weight */
  if (run->t->rc) return;
  priority_count(run->t, run->q, l->priority, COUNT_READY, COUNT_NONE,
                 got.lost);
  priority_count(run->t, run->q, l->priority, COUNT_READY, COUNT_LEASED,
                 run->batch->page.n - got.from);
  claim_runs(run, l, got.from);
}

/* SPDX-License-Identifier: MIT */
/*
 * Settling; see settle.h. As in the LMDB engine one group of the items of a
 * run may stay in it, so that a whole run moves without copying an item: those
 * still leased, else those released, else those that wait alike.
 */
#include "postgres/queue/settle.h"

#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "postgres/env/bells.h"
#include "postgres/queue/flow.h"
#include "postgres/record/run.h"

/* A run is kept for waiting items if they are one in so many of its own. */
#define WORTH_KEEPING 4

/* ---- which runs --------------------------------------------------------- */

static const mark *mark_of(const settle_req *r, size_t i) {
  return r->marks ? &r->marks[i] : &r->all;
}

static bool is_settled(const settle_req *r, size_t i) {
  return batch_is_over(r->batch, i);
}

/* The items of a claim that are marked. */
static size_t count_marked(const settle_req *r, const batch_claim *h) {
  size_t n = 0;
  for (size_t i = h->from; i < h->to; i++)
    n += !is_settled(r, i) && mark_of(r, i)->kind;
  return n;
}

/* Those that are live, unless some were cancelled and it is not known yet. */
static uint64_t count_live(const settle_req *r, const batch_claim *h) {
  uint64_t n = 0;
  for (size_t i = h->from; i < h->to; i++) n += !is_settled(r, i);
  return n;
}

/* The marked items of a claim that are known to be cancelled. */
static size_t count_gone(const settle_req *r, const batch_claim *h) {
  size_t n = 0;
  for (size_t i = h->from; i < h->to && h->gone; i++)
    n += r->batch->marks[i].gone && mark_of(r, i)->kind;
  return n;
}

/* Is all that is left of it done? */
static bool is_done(const settle_req *r, const batch_claim *h) {
  for (size_t i = h->from; i < h->to; i++)
    if (!is_settled(r, i) && mark_of(r, i)->kind != RESPOOL_DONE)
      return false;
  return true;
}

static bool is_plain(const settle_req *r) {
  for (size_t i = 0; i < r->batch->n_claims; i++) {
    const batch_claim *h = &r->batch->claims[i];
    if (!h->over && count_marked(r, h) && !is_done(r, h)) return false;
  }
  return true;
}

/* ---- what a run becomes ------------------------------------------------- */

/* One claim of the batch on its way. */
typedef struct moving {
  plan *p;
  settling *w;
  batch_claim *h;
  run_fate *f;
  claim_outcomes x;
  enum outcome kept;
  int64_t now;
  const outcome_text *text; /* of the last one in `failures` */
  respool_bytes failures;   /* the claim's and one more, shared by items that
                               were marked together */
} moving;

static const respool_item *item_at(const moving *m, size_t i) {
  return &m->w->r->batch->page.items[i];
}

static uint32_t place_of(const moving *m, size_t i) {
  return (uint32_t)(item_at(m, i)->id - m->h->first);
}

static bool worth_keeping(void *arg, uint64_t n) {
  const moving *m = arg;
  return m->f->n <= n * WORTH_KEEPING;
}

static respool_bytes add_failure(moving *m, const mark *k) {
  fates *f = &m->w->fates;
  if (!m->failures.size || k->text != m->text)
    if (outcome_add_failure(&f->memory, m->h->failures, m->now, k->text,
                            &m->failures))
      f->rc = RESPOOL_NOMEM;
  m->text = k->text;
  return m->failures;
}

static double chance_of(const moving *m, enum outcome o, const mark *k) {
  return o == OUTCOME_RETRY && k->delay == RESPOOL_KEEP
             ? random_next(m->w->r->random) : 0;
}

/* How an item goes on; `run` and `id` are set by the caller. */
static parted goes_on(moving *m, enum outcome o, const mark *k) {
  parted s = {.attempts = m->h->attempts, .delay = m->h->delay,
              .history = m->h->failures, .memo = m->h->memo};
  if (o == STILL_LEASED) {
    s.wait = STAYS_LEASED;
    return s;
  }
  if (k->text && k->text->memo.size) s.memo = k->text->memo;
  if (outcome_adds_failure(o, k)) s.history = add_failure(m, k);
  s.wait = outcome_wait(o, k, &m->w->fates.queue.config, chance_of(m, o, k),
                        &s.attempts, &s.delay);
  return s;
}

static void bury_item(moving *m, size_t i, enum outcome o, const mark *k) {
  death d = {.reason = o == OUTCOME_EXHAUSTED ? "exhausted" : "rejected",
             .items = 1, .at = m->now, .failures = m->h->failures,
             .attempts = m->h->attempts + 1, .deliveries = m->h->deliveries,
             .crashes = m->h->crashes, .memo = m->h->memo};
  if (k->text) {
    if (o == OUTCOME_DEAD && k->text->reason) d.reason = k->text->reason;
    d.dlq = k->text->dlq;
    d.group = k->text->group;
    d.error = k->text->error;
    if (k->text->memo.size) d.memo = k->text->memo;
  }
  if (outcome_adds_failure(o, k)) d.failures = add_failure(m, k);
  fates_bury(&m->w->fates, m->h->first, m->w->name, &d, item_at(m, i),
             m->w->r->batch->page.packed[i]);
}

static const mark *kept_mark(const moving *m) {
  for (size_t i = m->h->from; i < m->h->to; i++)
    if (outcomes_at(&m->x, i) == m->kept) return outcomes_mark(&m->x, i);
  return NULL;
}

static void set_bits(moving *m, uint8_t *bits, enum outcome o) {
  for (size_t i = m->h->from; i < m->h->to && bits; i++)
    if (outcomes_at(&m->x, i) == o) run_bit_set(bits, place_of(m, i), true);
}

static void keep_run(moving *m) {
  run_fate *f = m->f;
  if (m->kept == OUTCOME_COUNT) return;
  parted s = goes_on(m, m->kept, kept_mark(m));
  uint8_t *bits = fates_bits(&m->w->fates, f->n);
  set_bits(m, bits, m->kept);
  f->live = m->x.n[m->kept];
  f->bits = f->live < f->n ? bits : NULL;
  f->wait = s.wait;
  f->attempts = s.attempts;
  f->delay = s.delay;
  f->history = s.history;
  f->memo = s.memo;
}

static void keep_done(moving *m) {
  if (!m->x.n[OUTCOME_DONE] || m->w->fates.queue.config.keep_done <= 0)
    return;
  uint8_t *bits = fates_bits(&m->w->fates, m->f->n);
  set_bits(m, bits, OUTCOME_DONE);
  m->f->kept = bits;
}

static void move_others(moving *m) {
  for (size_t i = m->h->from; i < m->h->to; i++) {
    enum outcome o = outcomes_at(&m->x, i);
    const mark *k = outcomes_mark(&m->x, i);
    if (o == m->kept) continue;
    if (o == OUTCOME_DEAD || o == OUTCOME_EXHAUSTED) bury_item(m, i, o, k);
    if (!outcome_requeues(o)) continue;
    parted s = goes_on(m, o, k);
    s.run = m->h->first;
    s.id = item_at(m, i)->id;
    fates_part(&m->w->fates, &s);
  }
}

static void count(moving *m) {
  const uint64_t *n = m->x.n;
  uint32_t *c = m->f->counts;
  c[COUNT_DONE] = (uint32_t)n[OUTCOME_DONE];
  c[COUNT_DROPPED] = (uint32_t)n[OUTCOME_DROP];
  c[COUNT_DIED] = (uint32_t)(n[OUTCOME_DEAD] + n[OUTCOME_EXHAUSTED]);
  c[COUNT_RELEASED] = (uint32_t)n[OUTCOME_RELEASE];
  c[COUNT_RETRIED] = (uint32_t)(n[OUTCOME_RETRY] + n[OUTCOME_COOLDOWN]);
  c[COUNT_SNOOZED] = (uint32_t)n[OUTCOME_SNOOZE];
}

static void move_run(plan *p, settling *w, batch_claim *h) {
  settle_req *r = w->r;
  moving m = {.p = p, .w = w, .h = h, .now = pg_now(p->e, p->now)};
  m.f = fates_add(&w->fates, h->first, (uint32_t)(h->last - h->first + 1));
  if (m.f) m.f->had = h->attempts;
  if (m.f) m.f->had_live = count_live(r, h);
  uint8_t *of = arena_alloc(&w->fates.memory, h->to - h->from + 1);
  if (!m.f || !of) {
    w->fates.rc = RESPOOL_NOMEM;
    return;
  }
  m.x = (claim_outcomes){.batch = r->batch, .marks = r->marks, .all = &r->all,
                         .from = h->from, .to = h->to, .of = of,
                         .excuse = (enum excuse)h->excuse};
  outcomes_find(&m.x, &w->fates.queue.config, h->attempts);
  m.kept = outcomes_choose_kept(&m.x, worth_keeping, &m);
  keep_run(&m);
  keep_done(&m);
  move_others(&m);
  count(&m);
}

/* ---- planning ----------------------------------------------------------- */

/* The one run that there is. */
static void plan_done_run(plan *p, settling *w) {
  const settle_req *r = w->r;
  values *v = plan_add(p, STATEMENT_DONE_RUN, &w->request);
  plan_put_queue(p, v, w->fates.queue.id);
  plan_put_wall(p, v);
  plan_put_call(p, v);
  put_int8(v, (int64_t)w->fates.token);
  put_bool(v, r->strict);
  put_int8(v, (int64_t)w->firsts[0]);
  for (size_t i = 0; i < r->batch->n_claims; i++) {
    const batch_claim *h = &r->batch->claims[i];
    if (!h->over && count_marked(r, h))
      put_int4(v, (int64_t)count_live(r, h));
  }
}

static void plan_done(plan *p, settling *w, bool tell) {
  values *v = plan_add(p, STATEMENT_DONE, &w->request);
  plan_put_queue(p, v, w->fates.queue.id);
  plan_put_wall(p, v);
  plan_put_call(p, v);
  put_int8(v, (int64_t)w->fates.token);
  put_bool(v, w->fates.queue.config.keep_done > 0);
  put_bool(v, w->r->strict);
  put_bool(v, tell);
  array_begin(v, TYPE_INT8, w->n_firsts);
  for (size_t i = 0; i < w->n_firsts; i++) add_int8(v, (int64_t)w->firsts[i]);
  array_end(v);
  array_begin(v, TYPE_INT4, w->n_firsts);
  for (size_t i = 0; i < w->r->batch->n_claims; i++) {
    const batch_claim *h = &w->r->batch->claims[i];
    if (!h->over && count_marked(w->r, h))
      add_int4(v, (int64_t)count_live(w->r, h));
  }
  array_end(v);
}

static bool has_result(const settling *w, size_t i) {
  const mark *m = mark_of(w->r, i);
  return m->kind == RESPOOL_DONE && !is_settled(w->r, i) &&
         outcome_result(m).size;
}

/* The results of handlers, beside the history. */
static void plan_results(plan *p, const settling *w) {
  const respool_page *page = &w->r->batch->page;
  size_t n = 0;
  for (size_t i = 0; i < page->n; i++) n += has_result(w, i);
  if (!n || w->fates.queue.config.keep_done <= 0) return;
  values *v = plan_add(p, STATEMENT_RESULTS, NULL);
  plan_put_queue(p, v, w->fates.queue.id);
  array_begin(v, TYPE_INT8, n);
  for (size_t i = 0; i < page->n; i++)
    if (has_result(w, i)) add_int8(v, (int64_t)page->items[i].id);
  array_end(v);
  array_begin(v, TYPE_BYTEA, n);
  for (size_t i = 0; i < page->n; i++)
    if (has_result(w, i)) add_bytes(v, outcome_result(mark_of(w->r, i)));
  array_end(v);
}

/* Does somebody wait for results of the queue? */
static void plan_awaited(plan *p, settling *w) {
  if (w->fates.queue.config.keep_done <= 0) return;
  values *v = plan_add(p, STATEMENT_AWAITED, &w->awaited);
  put_int4(v, w->fates.queue.id);
}

/* Lost before and given an outcome again: lost still. */
static int known_lost(const settle_req *r, size_t *n) {
  *n = 0;
  for (size_t i = 0; i < r->batch->n_claims; i++) {
    const batch_claim *h = &r->batch->claims[i];
    if (h->over && h->lost) *n += count_marked(r, h);
    *n += count_gone(r, h);
  }
  return *n && r->strict;
}

int settle_plan(plan *p, settling *w, const char *name, settle_req *r,
                bool tell) {
  pg_queue q;
  size_t lost;
  *w = (settling){.name = name, .r = r, .request = NO_REQUEST,
                  .awaited = NO_REQUEST, .fresh_gone = w->fresh_gone};
  int rc = known_find(p->e, p->l, name, &q);
  if (rc) return rc;
  fates_init(&w->fates, &q, r->batch->token);
  if (known_lost(r, &lost)) {
    r->batch->lost = lost;
    return batch_lost_error(name, lost);
  }
  w->fates.strict = r->strict;
  w->fates.tell = tell;
  w->fates.recount = config_has_breaker(&q.config);
  w->fates.cancels = true;
  w->fates.notices = r->notices;
  w->plain = is_plain(r);
  w->firsts = plan_alloc(p, r->batch->n_claims * sizeof *w->firsts);
  if (!w->firsts) return fail(RESPOOL_NOMEM, "not enough memory to settle");
  for (size_t i = 0; i < r->batch->n_claims; i++) {
    batch_claim *h = &r->batch->claims[i];
    if (h->over || !count_marked(r, h)) continue;
    w->firsts[w->n_firsts++] = h->first;
    if (!w->plain) move_run(p, w, h);
  }
  if (!w->n_firsts) return 0;
  flow_note_plan(p, &q, r);
  if (w->plain && w->n_firsts == 1 && !tell && q.config.keep_done <= 0) {
    plan_done_run(p, w);
  } else if (w->plain) {
    plan_done(p, w, tell);
  } else {
    fates_plan(p, &w->fates);
    w->request = w->fates.request;
  }
  plan_results(p, w);
  plan_awaited(p, w);
  return 0;
}

void settle_free(settling *w) {
  if (w->r) fates_free(&w->fates);
  *w = (settling){.fresh_gone = w->fresh_gone};
}

/* ---- after it ----------------------------------------------------------- */

static const uint64_t *done_end(plan *p, const settling *w, size_t *n) {
  const PGresult *r = plan_answer(p, w->request);
  *n = r ? value_count(r, 0, 0) : (size_t)plan_noted(p);
  uint64_t *lost = plan_alloc(p, *n * sizeof *lost);
  if (!lost) *n = 0;
  for (size_t i = 0; i < *n; i++)
    lost[i] = (uint64_t)(r ? value_element(r, 0, 0, i) : plan_noted(p));
  return lost;
}

static bool has(const uint64_t *list, size_t n, uint64_t first) {
  for (size_t i = 0; i < n; i++)
    if (list[i] == first) return true;
  return false;
}

/* The run of items that stay leased begins with the first of them now. */
static void follow_run(const settling *w, batch_claim *h) {
  for (size_t i = 0; i < w->fates.n_runs; i++) {
    const run_fate *f = &w->fates.runs[i];
    if (f->first != h->first || f->wait != STAYS_LEASED || !f->bits) continue;
    uint32_t lead = 0;
    while (!run_bit(f->bits, lead)) lead++;
    h->first += lead;
    return;
  }
}

void settle_end(plan *p, settling *w) {
  respool_batch *b = w->r->batch;
  size_t n = 0, fresh = w->fresh_gone;
  const uint64_t *lost = NULL;
  if (w->request != NO_REQUEST)
    lost = w->plain ? done_end(p, w, &n) : fates_end(p, &w->fates, &n);
  b->lost = 0;
  for (size_t i = 0; i < b->n_claims; i++) {
    batch_claim *h = &b->claims[i];
    size_t marked = count_marked(w->r, h);
    if (!h->over) {
      h->lost = marked && has(lost, n, h->first);
      if (h->lost) fresh += marked;
      if (!h->lost && !w->plain) follow_run(w, h);
    }
    if (h->lost) b->lost += marked;
    b->lost += count_gone(w->r, h);
  }
  const PGresult *awaited =
      w->awaited == NO_REQUEST ? NULL : plan_answer(p, w->awaited);
  if (awaited && value_bool(awaited, 0, 0))
    bells_ring(p->e->bells, -w->fates.queue.id);
  const queue_config *c = &w->fates.queue.config;
  if (w->n_firsts && (c->partition_concurrency || c->partition_ordered))
    bells_ring(p->e->bells, w->fates.queue.id); /* others may be taken now */
  observed seen = {.late = fresh, .handle = b->observed};
  if (fresh || b->observed.count) known_observe(p->e, w->name, &seen);
}

int settle_refused(const plan *p, settling *w) {
  respool_batch *b = w->r->batch;
  const char *at = p->call.why.detail;
  b->lost = 0;
  while (*at) {
    char *end;
    uint64_t first = strtoull(at, &end, 10);
    if (end == at) break;
    at = end;
    for (size_t i = 0; i < b->n_claims; i++) {
      batch_claim *h = &b->claims[i];
      if (h->over || h->first != first) continue;
      h->lost = true;
      b->lost += count_marked(w->r, h);
    }
  }
  return batch_lost_error(w->name, b->lost ? b->lost : 1);
}

/* The claim in the next pair of a detail: the first id of its run, and a number
   of it. NULL: there is none. */
static batch_claim *next_told(const settling *w, const char **at,
                              uint64_t *number) {
  char *end;
  uint64_t first = strtoull(*at, &end, 10);
  if (end == *at) return NULL;
  *number = strtoull(end, &end, 10);
  *at = end;
  for (size_t i = 0; i < w->r->batch->n_claims; i++) {
    batch_claim *h = &w->r->batch->claims[i];
    if (!h->over && h->first == first) return h;
  }
  return NULL;
}

void settle_excuse(const plan *p, settling *w) {
  const char *at = p->call.why.detail;
  batch_claim *h;
  uint64_t excuse;
  while ((h = next_told(w, &at, &excuse))) h->excuse = (int)excuse;
}

void settle_recount(const plan *p, settling *w) {
  const char *at = p->call.why.detail;
  batch_claim *h;
  uint64_t attempts;
  while ((h = next_told(w, &at, &attempts))) h->attempts = attempts;
}

/* ---- cancelled items ---------------------------------------------------- */

typedef struct live_run {
  uint64_t first;
  respool_bytes bits; /* a varbit: its length in bits, then the bits */
} live_run;

static bool is_live(void *arg, uint64_t id) {
  const live_run *l = arg;
  uint64_t i = id - l->first;
  return id >= l->first && i / 8 + 4 < l->bits.size &&
         run_bit((const uint8_t *)l->bits.data + 4, (uint32_t)i);
}

static int note_gone(settling *w, const PGresult *r, int row) {
  respool_batch *b = w->r->batch;
  live_run l = {(uint64_t)value_int(r, row, 0), value_bytes(r, row, 1)};
  int rc = 0;
  for (size_t i = 0; i < b->n_claims && !rc; i++) {
    batch_claim *h = &b->claims[i];
    if (h->over || h->first != l.first) continue;
    size_t before = count_gone(w->r, h);
    rc = batch_note_gone(b, h, is_live, &l);
    if (!rc) w->fresh_gone += count_gone(w->r, h) - before;
  }
  return rc ? fail(rc, "not enough memory to settle") : 0;
}

int settle_find_gone(const plan *p, settling *w) {
  plan look;
  plan_init(&look, p->e, p->l);
  values *v = plan_add(&look, STATEMENT_LIVE, NULL);
  put_int8(v, (int64_t)w->fates.token);
  array_begin(v, TYPE_INT8, w->n_firsts);
  for (size_t i = 0; i < w->n_firsts; i++) add_int8(v, (int64_t)w->firsts[i]);
  array_end(v);
  int rc = plan_run(&look, false);
  const PGresult *r = rc ? NULL : plan_answer(&look, 0);
  for (int i = 0; r && !rc && i < pq.ntuples(r); i++)
    rc = note_gone(w, r, i);
  plan_free(&look);
  return rc;
}

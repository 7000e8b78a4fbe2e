/* SPDX-License-Identifier: MIT */
/*
 * Taking; see take.h and sql/take.sql.
 */
#include "postgres/queue/take.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/histogram.h"
#include "postgres/queue/burial.h"
#include "postgres/record/items.h"

/* ---- asking ------------------------------------------------------------- */

static void put_unless_0(values *v, int64_t at) {
  if (at)
    put_int8(v, at);
  else
    put_null(v);
}

static void put_credits(values *v, const take_marks *m) {
  if (!m || !m->n_credits) {
    put_null(v);
    return;
  }
  array_begin(v, TYPE_INT8, m->n_credits);
  for (size_t i = 0; i < m->n_credits; i++) add_int8(v, m->credits[i]);
  array_end(v);
}

/* Marks hold for real time only. */
static enum look how_to_look(const plan *p, const take_marks *m) {
  return m && p->now == SERVER_TIME ? marks_look(&m->marks) : LOOK_ALL;
}

/* `again`: the marks may have passed over something. */
static int plan_take(plan *p, taking *k, bool again) {
  take_marks *m = known_marks(p->e, k->name, k->queue.id);
  uint64_t token;
  int rc = session_token(p->l, k->r->worker, &token);
  if (rc) return rc;
  values *v = plan_add(p, STATEMENT_TAKE, &k->request);
  k->how = again ? LOOK_BACK : how_to_look(p, m);
  k->sent = clock_mono();
  plan_put_queue(p, v, k->queue.id);
  plan_put_wall(p, v);
  put_int4(v, k->r->items > INT_MAX ? INT_MAX : (int64_t)k->r->items);
  put_unless_0(v, (int64_t)k->r->bytes);
  if (k->r->lease == RESPOOL_KEEP)
    put_null(v);
  else
    put_int8(v, k->r->lease);
  marks_put(v, m ? &m->marks : NULL, k->how);
  put_credits(v, m);
  put_int8(v, (int64_t)token);
  return 0;
}

int take_plan(plan *p, taking *k, const char *name, claim_req *r) {
  k->name = name;
  k->r = r;
  k->request = NO_REQUEST;
  batch_clear(r->batch);
  r->more = false;
  r->due_in = INT64_MAX;
  int rc = known_find(p->e, p->l, name, &k->queue);
  return rc ? rc : plan_take(p, k, false);
}

/* ---- runs into a batch -------------------------------------------------- */

typedef struct filling {
  plan *p;
  taking *k;
  const PGresult *r;
  taken_head head;
  int64_t now;
  observed seen;
  fates buried;
} filling;

static death death_of(const filling *w, const taken *t, respool_bytes failures,
                      const char *reason) {
  return (death){.reason = reason, .items = 1, .at = w->now,
                 .failures = failures, .memo = t->memo,
                 .error = failures_error(failures), .attempts = t->attempts,
                 .deliveries = t->deliveries, .crashes = t->crashes};
}

/* The items of a run that is over. */
static void bury_run(filling *w, taken *t) {
  respool_page page;
  damage bad = {NULL, 0, 0};
  respool_bytes failures = {NULL, 0};
  arena *a = &w->buried.memory;
  bool expired = t->kind == TAKEN_EXPIRED;
  run_fate *f = fates_add(&w->buried, t->first, t->n);
  page_init(&page);
  int rc = taken_failures(a, w->r, t, &failures);
  if (!rc) rc = taken_own(a, t);
  respool_item_about about = taken_about(t, failures);
  if (rc || !items_read(&page, t, 0, SIZE_MAX, &about, &bad, NULL))
    w->buried.rc = RESPOOL_NOMEM;
  if (f && !w->buried.rc) {
    death d = death_of(w, t, failures, expired ? "expired" : "crashed");
    f->counts[expired ? COUNT_EXPIRED : COUNT_DIED] = (uint32_t)page.n;
    f->counts[COUNT_DIED] += (uint32_t)bad.n;
    for (size_t i = 0; i < page.n; i++)
      fates_bury(&w->buried, t->first, w->k->name, &d, &page.items[i],
                 page.packed[i]);
  }
  for (size_t i = 0; i < bad.n && !w->buried.rc; i++) {
    death d = death_of(w, t, failures, "undecodable");
    respool_item it = {.id = bad.of[i].id, .about = &about};
    packer raw;
    d.error = phrase_of("the item's bytes are damaged");
    packer_init(&raw);
    item_pack_damaged(&raw, bad.of[i].bytes);
    fates_bury(&w->buried, t->first, w->k->name, &d, &it,
               (respool_bytes){raw.data, raw.len});
    packer_free(&raw);
    w->buried.damaged++;
  }
  free(bad.of);
  page_clear(&page);
}

/* Items of a leased run that cannot be read leave it. */
static void bury_damaged(filling *w, batch_claim *h, const taken *t,
                         respool_bytes failures, const damage *bad) {
  run_fate *f = fates_add(&w->buried, t->first, t->n);
  uint8_t *bits = fates_bits(&w->buried, t->n);
  if (!f || !bits) return;
  const respool_page *page = &w->k->r->batch->page;
  for (size_t i = h->from; i < h->to; i++)
    run_bit_set(bits, (uint32_t)(page->items[i].id - t->first), true);
  f->live = h->to - h->from;
  f->bits = bits;
  f->wait = STAYS_LEASED;
  f->attempts = t->attempts;
  f->delay = t->delay;
  f->history = failures;
  f->memo = t->memo;
  f->counts[COUNT_DIED] = (uint32_t)bad->n;
  w->buried.damaged += bad->n;
  for (size_t i = 0; i < bad->n; i++) {
    death d = death_of(w, t, failures, "undecodable");
    respool_item_about about = {.priority = t->priority, .version = t->version,
                                .pushed_at = t->pushed_at};
    respool_item it = {.id = bad->of[i].id, .about = &about};
    packer raw;
    d.error = phrase_of("the item's bytes are damaged");
    packer_init(&raw);
    item_pack_damaged(&raw, bad->of[i].bytes);
    fates_bury(&w->buried, t->first, w->k->name, &d, &it,
               (respool_bytes){raw.data, raw.len});
    packer_free(&raw);
  }
  if (h->from < h->to) h->first = page->items[h->from].id;
}

/* How long items waited for their first delivery, and how large they are. */
static void note_delivery(filling *w, const batch_claim *h, const taken *t) {
  const respool_page *page = &w->k->r->batch->page;
  int64_t waited = w->now - t->pushed_at;
  if (t->deliveries == 1 && h->from < h->to)
    histogram_add(&w->seen.wait, waited > 0 ? (uint64_t)waited * 1000 : 0,
                  h->to - h->from);
  w->seen.delivered += h->to - h->from;
  for (size_t i = h->from; i < h->to; i++)
    w->seen.delivered_bytes += page->items[i].body.size;
}

static void add_run(filling *w, taken *t) {
  respool_batch *b = w->k->r->batch;
  arena *a = &b->page.memory;
  damage bad = {NULL, 0, 0};
  respool_bytes failures = {NULL, 0};
  size_t from = b->page.n;
  int rc = taken_own(a, t);
  if (!rc) rc = taken_failures(a, w->r, t, &failures);
  respool_item_about about = taken_about(t, failures);
  about.visible_at = t->due;
  about.state = RESPOOL_LEASED;
  about.worker = token_worker(b->token);
  batch_claim *h = rc ? NULL : batch_add_claim(b);
  if (!h || !items_read(&b->page, t, 0, SIZE_MAX, &about, &bad, NULL)) {
    w->buried.rc = RESPOOL_NOMEM;
    free(bad.of);
    return;
  }
  *h = (batch_claim){
    .queue = (uint32_t)w->k->queue.id, .priority = t->priority,
    .first = t->first, .last = t->first + t->n - 1, .from = from,
    .to = b->page.n, .attempts = t->attempts, .crashes = t->crashes,
    .deliveries = t->deliveries, .delay = t->delay, .failures = failures,
    .memo = t->memo};
  if (w->head.token && !b->lease) b->lease = t->due - w->now;
  if (bad.n) bury_damaged(w, h, t, failures, &bad);
  note_delivery(w, h, t);
  free(bad.of);
}

/* Expired ones before all others, in the order of their pushes. */
static int by_place(const void *a, const void *b) {
  const taken *x = a, *y = b;
  bool old = x->kind == TAKEN_EXPIRED;
  if (old != (y->kind == TAKEN_EXPIRED)) return old ? -1 : 1;
  if (old) return (x->first > y->first) - (x->first < y->first);
  return (x->place > y->place) - (x->place < y->place);
}

/* The runs of an answer in their order; NULL when out of memory, or when it
   is none. */
static taken *read_runs(const PGresult *r, size_t *n) {
  *n = (size_t)pq.ntuples(r);
  taken *runs = calloc(*n + 1, sizeof *runs);
  for (size_t i = 0; runs && i < *n; i++)
    if (!taken_read(r, (int)i, &runs[i])) runs[i].kind = TAKEN_HEAD;
  if (runs) qsort(runs, *n, sizeof *runs, by_place);
  return runs;
}

static int no_memory(void) {
  return fail(RESPOOL_NOMEM, "not enough memory for a batch");
}

static int read_answer(filling *w) {
  size_t n;
  taken *runs = read_runs(w->r, &n);
  if (!runs) return no_memory();
  for (size_t i = 0; i < n && !w->buried.rc; i++) {
    if (runs[i].kind == TAKEN_RUN)
      add_run(w, &runs[i]);
    else if (runs[i].kind != TAKEN_HEAD)
      bury_run(w, &runs[i]);
  }
  free(runs);
  return w->buried.rc ? no_memory() : 0;
}

/* ---- after it ----------------------------------------------------------- */

static void keep_marks(plan *p, taking *k) {
  take_marks *m = known_marks(p->e, k->name, k->queue.id);
  if (!m) return;
  const PGresult *r = plan_answer(p, k->request);
  if (p->now == SERVER_TIME) marks_keep(&m->marks, r, k->how, k->sent);
  size_t n = taken_credits(r, NULL, 0);
  if (!n) return;
  int64_t *credits = realloc(m->credits, n * sizeof *credits);
  if (!credits) return;
  taken_credits(r, credits, n);
  m->credits = credits;
  m->n_credits = n;
}

static int bury(plan *p, taking *k, fates *f) {
  size_t lost;
  return f->n_runs ? fates_run(p->e, p->l, p->now, k->name, f, &lost) : 0;
}

static int fill(plan *p, taking *k, const taken_head *h) {
  filling w = {.p = p, .k = k, .r = plan_answer(p, k->request), .head = *h,
               .now = h->now};
  respool_batch *b = k->r->batch;
  fates_init(&w.buried, &k->queue, h->token);
  w.buried.notices = k->r->notices;
  b->token = h->token;
  b->lease = 0;
  b->max_lease = k->queue.config.max_lease;
  int rc = read_answer(&w);
  size_t n_buried = w.buried.n_runs;
  if (!rc) rc = bury(p, k, &w.buried);
  fates_free(&w.buried);
  if (rc) {
    batch_clear(b); /* its leases run out */
    return rc;
  }
  known_observe(p->e, k->name, &w.seen);
  k->r->more = !b->page.n && n_buried > 0;
  return 0;
}

static int take_again(plan *old, taking *k) {
  plan p;
  plan_init(&p, old->e, old->l);
  int rc = plan_take(&p, k, true);
  if (!rc) rc = plan_run(&p, true);
  if (!rc) rc = take_end(&p, k);
  plan_free(&p);
  return rc;
}

int take_end(plan *p, taking *k) {
  const PGresult *r = plan_answer(p, k->request);
  taken_head h;
  if (!r) { /* what it took is leased, and comes again */
    k->r->due_in = 0;
    return 0;
  }
  if (!taken_head_read(r, &h))
    return fail(RESPOOL_CORRUPT, "an answer of %.120s makes no sense",
                p->e->url.shown);
  if (p->now == SERVER_TIME) pg_note_time(p->e, h.now);
  int rc = 0;
  if (h.policy != k->queue.version)
    rc = known_load(p->e, p->l, k->name, &k->queue);
  if (rc) return rc;
  keep_marks(p, k);
  if (h.token) return fill(p, k, &h);
  if (k->how == LOOK_ON) return take_again(p, k);
  if (h.next_due)
    k->r->due_in = h.next_due > h.now ? h.next_due - h.now : 1;
  return 0;
}

/* ---- expired items ------------------------------------------------------ */

static int bury_expired(plan *p, taking *k, uint64_t *ended, size_t *runs) {
  const PGresult *r = plan_answer(p, k->request);
  claim_req none = {.notices = k->r->notices};
  taken_head h;
  k->r = &none;
  if (!taken_head_read(r, &h)) return 0;
  filling w = {.p = p, .k = k, .r = r, .head = h, .now = h.now};
  fates_init(&w.buried, &k->queue, h.token);
  w.buried.notices = none.notices;
  int rc = read_answer(&w);
  *runs = h.token ? w.buried.n_runs : taken_dropped(r, ended);
  for (size_t i = 0; i < w.buried.n_runs; i++)
    *ended += w.buried.runs[i].counts[COUNT_EXPIRED];
  if (!rc) rc = bury(p, k, &w.buried);
  fates_free(&w.buried);
  return rc;
}

int take_expired(pg_env *e, session *l, int64_t now, const char *name,
                 int max_runs, uint64_t id, notices *noted,
                 uint64_t *ended, size_t *runs) {
  claim_req r = {.notices = noted};
  taking k = {.name = name, .r = &r};
  plan p;
  *ended = *runs = 0;
  plan_init(&p, e, l);
  p.now = now;
  uint64_t token = 0;
  int rc = known_find(e, l, name, &k.queue);
  if (!rc) rc = session_token(l, 0, &token);
  values *v = plan_add(&p, STATEMENT_EXPIRE, &k.request);
  plan_put_queue(&p, v, k.queue.id);
  plan_put_wall(&p, v);
  put_int4(v, max_runs);
  put_unless_0(v, (int64_t)id);
  put_int8(v, (int64_t)token);
  if (!rc) rc = plan_run(&p, false);
  if (!rc) rc = bury_expired(&p, &k, ended, runs);
  plan_free(&p);
  return rc;
}

/* ---- extending ---------------------------------------------------------- */

int extend_plan(plan *p, extending *x, const char *name, extend_req *r) {
  pg_queue q;
  x->r = r;
  int rc = known_find(p->e, p->l, name, &q);
  if (rc) return rc;
  values *v = plan_add(p, STATEMENT_EXTEND, &x->request);
  size_t n = 0;
  for (size_t i = 0; i < r->n; i++) n += !r->claims[i].over;
  put_int4(v, q.id);
  plan_put_wall(p, v);
  put_int8(v, (int64_t)r->token);
  if (r->lease == RESPOOL_KEEP)
    put_null(v);
  else
    put_int8(v, r->lease);
  array_begin(v, TYPE_INT8, n);
  for (size_t i = 0; i < r->n; i++)
    if (!r->claims[i].over) add_int8(v, (int64_t)r->claims[i].first);
  array_end(v);
  array_begin(v, TYPE_INT8, n);
  for (size_t i = 0; i < r->n; i++)
    if (!r->claims[i].over) add_int8(v, (int64_t)r->claims[i].last);
  array_end(v);
  return 0;
}

static bool has(const PGresult *r, uint64_t first) {
  size_t n = value_count(r, 0, 0);
  for (size_t i = 0; i < n; i++)
    if ((uint64_t)value_element(r, 0, 0, i) == first) return true;
  return false;
}

void extend_end(plan *p, extending *x) {
  const PGresult *r = plan_answer(p, x->request);
  for (size_t i = 0; r && i < x->r->n; i++)
    if (!x->r->claims[i].over)
      x->r->claims[i].lost = has(r, x->r->claims[i].first);
}

/* SPDX-License-Identifier: MIT */
/*
 * Looking at items without taking them: peek, get, browse. Nothing changes;
 * expired items are skipped, damaged ones are skipped and noted.
 */
#include "lmdb/steps/browse.h"

#include "lmdb/env/txn/cur.h"
#include "lmdb/queue/claims.h"
#include "lmdb/queue/find.h"
#include "lmdb/queue/order.h"
#include "lmdb/queue/state.h"
#include "lmdb/queue/unique_key.h"
#include "lmdb/record/item_reader.h"
#include "lmdb/record/segments.h"
#include "record/leases.h"

#include <stdlib.h>
#include <string.h>

/* A look at one queue. */
typedef struct look {
  txn *t;
  const queue *q;
  respool_page *page;
  int64_t now;
  size_t limit;
  uint64_t bytes, weight; /* of bodies: about as many in a page; those in it */
} look;

/* ---- items of a range --------------------------------------------------- */

static int state_of(const look *k, const claim *c) {
  if (!c || c->visible_at <= k->now) return RESPOOL_READY;
  if (c->state == CLAIM_LEASED) return RESPOOL_LEASED;
  return claim_has_failed(c) ? RESPOOL_RETRYING : RESPOOL_SCHEDULED;
}

/* The fields that the items of a claim share. */
static respool_item_about common(look *k, const claim *of) {
  if (!of) return (respool_item_about){.state = RESPOOL_READY};
  claim c = *of;
  claim_own(k->t, &k->page->memory, &c);
  return (respool_item_about){
    .attempts = c.attempts, .deliveries = c.deliveries, .crashes = c.crashes,
    .error = failures_error(c.failures), .memo = c.memo,
    .visible_at = c.visible_at, .state = state_of(k, &c),
    .worker = claim_held(&c, k->now) ? token_worker(c.token) : 0,
    .lease = claim_held(&c, k->now) ? c.token : 0};
}

/* Items out of order or outside their range come from segments that are out of
   order; there a look may never end, so it is an error. */
static void check_order(look *k, size_t from, uint64_t least, uint64_t most) {
  const respool_page *p = k->page;
  for (size_t i = from; i < p->n; least = p->items[i++].id + 1)
    if (p->items[i].id < least || p->items[i].id > most)
      txn_fail(k->t, RESPOOL_CORRUPT);
}

/* Notes the items of a segment that is skipped. */
static void note_segment(look *k, const item_reader *c) {
  uint64_t *ids = malloc(SEGMENT_ITEMS * sizeof *ids);
  if (!ids) {
    txn_fail(k->t, RESPOOL_NOMEM);
    return;
  }
  size_t n = reader_unsettled(k->t, c, ids);
  for (size_t i = 0; i < n; i++)
    if (!page_note_damaged(k->page, ids[i])) txn_fail(k->t, RESPOOL_NOMEM);
  free(ids);
}

static void pass(look *k, item_reader *c) {
  uint64_t from = c->from;
  reader_skip_segment(c);
  if (c->from <= from) txn_fail(k->t, RESPOOL_CORRUPT);
}

/* Skips what stopped the reader. */
static void pass_over(look *k, item_reader *c, int what) {
  if (what == READ_DAMAGED) note_segment(k, c);
  if (what == READ_BAD_ITEM) {
    if (!page_note_damaged(k->page, c->last)) txn_fail(k->t, RESPOOL_NOMEM);
    k->page->n--;
  } else if (what == READ_DAMAGED || what == READ_EXPIRED)
    pass(k, c);
}

/* Adds the items of a range, up to the limit; false when it is reached. */
static bool look_at(look *k, const line *l, uint64_t from, uint64_t upto,
                    const claim *c) {
  size_t before = k->page->n;
  bool held = c && claim_held(c, k->now); /* then it has not expired yet */
  item_reader got = {.page = k->page,
                     .line = *l,
                     .like = common(k, c),
                     .from = from,
                     .upto = upto,
                     .want = k->limit - k->page->n,
                     .bytes = k->bytes,
                     .weight = k->weight,
                     .now = held ? 0 : k->now};
  int what;
  do {
    what = read_items(k->t, &got);
    pass_over(k, &got, what);
  } while (what != READ_END && what != READ_FULL);
  k->weight = got.weight;
  check_order(k, before, from, upto);
  return what == READ_END && !k->t->rc;
}

/* ---- peek --------------------------------------------------------------- */

static bool peek_due(look *k, int priority) {
  place lowest = {{k->q->id, 0, priority}, 0, 0};
  key start = due_key_of(&lowest, 0);
  due_key d;
  claim c;
  cur at;
  cur_open(&at, k->t, DB_DUE);
  bool found = cur_seek(&at, key_bytes(&start)), more = true;
  while (found && more && due_key_read(at.key, &d) && d.at <= k->now &&
         d.claim.line.queue == k->q->id && d.claim.line.priority == priority) {
    if (claim_look(k->t, &d.claim, &c))
      more = look_at(k, &d.claim.line, d.claim.first, c.last, &c);
    found = cur_next(&at);
  }
  cur_close(&at);
  return more;
}

static bool look_at_new(look *k, const priority_state *l, uint64_t from) {
  line here = {k->q->id, SPACE_READY, l->priority};
  if (!l->ready) return true;
  if (from < l->head) from = l->head;
  return look_at(k, &here, from, UINT64_MAX, NULL);
}

/* In strict order, up to the first item that is leased or waits. */
static bool peek_ordered(look *k, const priority_state *l) {
  bool more = true;
  uint64_t from = 0;
  while (more && !k->t->rc) {
    sources s = find_sources(k->t, k->q, l, from);
    claim c;
    if (s.first.id == UINT64_MAX || s.first.due > k->now) return true;
    uint64_t upto = s.second - 1 < s.first.last ? s.second - 1 : s.first.last;
    bool claimed = !s.first.is_new && claim_look(k->t, &s.first.claim, &c);
    more = look_at(k, &s.first.claim.line, s.first.id, upto,
                   claimed ? &c : NULL);
    if (upto == UINT64_MAX) break;
    from = upto + 1;
  }
  return more;
}

/* The items of partitions that no claim covers, from `from` on. */
static bool look_at_listed(look *k, int priority, uint64_t from) {
  line l = {k->q->id, SPACE_PARTED, priority};
  uint64_t upto;
  bool more = true;
  while (more && k->q->n_partitions && claim_gap(k->t, &l, &from, &upto)) {
    more = look_at(k, &l, from, upto, NULL);
    if (upto == UINT64_MAX) break;
    from = upto + 1;
  }
  return more && !k->t->rc;
}

/* The items of partitions that are parked. */
static bool look_at_parked(look *k, int priority) {
  line l = {k->q->id, SPACE_PARTED_SOLO, priority};
  place from = {l, 0, 0}, p;
  claim c;
  bool more = true;
  for (; more && claim_next(k->t, k->q, from, &p, &c) &&
         same_line(&p.line, &l); from.first = c.last + 1)
    if (c.state == CLAIM_PARKED)
      more = look_at(k, &l, p.first, c.last, &c);
  return more && !k->t->rc;
}

static bool peek_parted(look *k, int priority) {
  return !k->q->n_partitions ||
         (look_at_parked(k, priority) && look_at_listed(k, priority, 0));
}

static bool peek_priority(look *k, const priority_state *l) {
  if (k->q->config.ordered) return peek_ordered(k, l);
  return peek_due(k, l->priority) && peek_parted(k, l->priority) &&
         look_at_new(k, l, 0);
}

static queue *look_open(look *k, txn *t, const char *name, int64_t wall,
                        respool_page *p, size_t limit, int *rc) {
  queue *q = queue_find(t, name, rc);
  if (q) *k = (look){t, q, p, queue_now(q, wall), limit, 0, 0};
  return q;
}

int lmdb_peek(txn *t, const char *name, int64_t wall, size_t limit,
              respool_page *p) {
  int rc = 0;
  look k;
  queue *q = look_open(&k, t, name, wall, p, limit, &rc);
  if (!q) return rc;
  bool more = limit > 0;
  k.bytes = PAGE_BYTES;
  for (size_t i = 0; i < q->n_priorities && more; i++)
    more = peek_priority(&k, &q->priorities[i]);
  return t->rc;
}

/* ---- one ---------------------------------------------------------------- */

static int no_owner(txn *t, const char *name) {
  return t->rc ? t->rc
               : fail(RESPOOL_NOT_FOUND, "no item of queue '%.120s' holds this "
                      "key", name);
}

int lmdb_get_key(txn *t, const char *name, int64_t wall, respool_bytes own_name,
                 respool_page *p) {
  int rc = 0;
  key_owner h;
  line l;
  queue *q = queue_find(t, name, &rc);
  if (!q) return rc;
  if (!key_in_use(t, q, own_name, INT64_MAX, &h) || !find_item(t, q, h.id, &l))
    return no_owner(t, name);
  rc = lmdb_get(t, name, wall, h.id, p);
  return rc == RESPOOL_NOT_FOUND ? no_owner(t, name) : rc; /* expired */
}

int lmdb_get(txn *t, const char *name, int64_t wall, uint64_t id,
             respool_page *p) {
  int rc = 0;
  look k;
  line l;
  place owner;
  claim c;
  queue *q = look_open(&k, t, name, wall, p, 1, &rc);
  if (!q) return rc;
  if (!find_item(t, q, id, &l)) return item_not_found(t, q, id);
  bool claimed = claim_cover(t, &l, id, &owner, &c);
  look_at(&k, &l, id, id, claimed ? &c : NULL);
  if (!p->n && p->n_damaged)
    return fail(RESPOOL_CORRUPT, "item %llu of queue '%.120s' is damaged",
                (unsigned long long)id, name);
  return p->n ? t->rc : item_not_found(t, q, id);
}

/* ---- browsing by state -------------------------------------------------- */

/* First the claims in the order of their keys, then the new items, and those of
   partitions that have no claim, priority by priority, at the end those of the
   journal (look.c); `id` is the next one. */
enum { PHASE_CLAIMS, PHASE_NEW, PHASE_LISTED };

/* Continues in the claim that the last page ended in. */
static bool claim_at(look *k, const respool_cursor *at, place *p, claim *c) {
  line l = {k->q->id, at->space, at->priority};
  if (at->id > 0 && claim_cover(k->t, &l, at->id, p, c)) return true;
  return claim_next(k->t, k->q, (place){l, at->id, 0}, p, c);
}

static bool is_behind(const respool_cursor *a, const respool_cursor *b) {
  if (a->space != b->space) return a->space < b->space;
  if (a->priority != b->priority) return a->priority < b->priority;
  return a->id < b->id;
}

/* Where the next look begins. */
static void advance(look *k, respool_cursor *at, const place *p,
                    uint64_t last, size_t before, bool more) {
  at->space = p->line.space;
  at->priority = p->line.priority;
  if (more)
    at->id = last + 1;
  else if (k->page->n > before) /* ended within it? */
    at->id = k->page->items[k->page->n - 1].id + 1;
  else
    at->id = p->first;
}

static void browse_claims(look *k, int state, respool_cursor *at) {
  place p;
  claim c;
  bool more = true;
  while (more && claim_at(k, at, &p, &c)) {
    size_t before = k->page->n;
    uint64_t from = p.first;
    respool_cursor was = *at;
    if (at->space == p.line.space && at->priority == p.line.priority &&
        at->id > from)
      from = at->id;
    p.first = from;
    if (state < 0 || state_of(k, &c) == state)
      more = look_at(k, &p.line, from, c.last, &c);
    advance(k, at, &p, c.last, before, more);
    if (is_behind(at, &was) || (more && !is_behind(&was, at)))
      txn_fail(k->t, RESPOOL_CORRUPT); /* out of order? */
  }
  if (more && !k->t->rc)
    *at = (respool_cursor){PHASE_NEW, 0, RESPOOL_PRIORITIES, 0,
                           0};
}

/* New items of a priority, or those of its partitions, from an id on. */
static bool look_without_claim(look *k, int phase, const priority_state *l,
                               uint64_t from) {
  return phase == PHASE_NEW ? look_at_new(k, l, from)
                            : look_at_listed(k, l->priority, from);
}

static void browse_new(look *k, int state, respool_cursor *at) {
  bool more = true;
  for (size_t i = 0; i < k->q->n_priorities && more; i++) {
    const priority_state *l = &k->q->priorities[i];
    if (l->priority > at->priority || (state >= 0 && state != RESPOOL_READY))
      continue;
    uint64_t from = l->priority == at->priority ? at->id : 0;
    size_t before = k->page->n;
    place p = {{k->q->id, 0, l->priority}, from, 0};
    more = look_without_claim(k, at->phase, l, from);
    advance(k, at, &p, UINT64_MAX - 1, before, more);
  }
  if (!more) return;
  int next = at->phase + 1;
  *at = next < PHASE_END
            ? (respool_cursor){.phase = next, .priority = RESPOOL_PRIORITIES}
            : (respool_cursor){.phase = next, .id = k->q->next_id,
                               .at = (int64_t)k->q->next_id};
}

int lmdb_browse(txn *t, const char *name, int64_t wall, int state,
                size_t limit, respool_cursor *at, respool_page *p) {
  int rc = 0;
  look k;
  if (!look_open(&k, t, name, wall, p, limit, &rc)) return rc;
  k.bytes = PAGE_BYTES;
  if (at->phase == PHASE_CLAIMS) browse_claims(&k, state, at);
  while (at->phase < PHASE_END && at->phase != PHASE_CLAIMS && p->n < limit &&
         !t->rc) {
    int phase = at->phase;
    browse_new(&k, state, at);
    if (at->phase == phase) break;
  }
  return t->rc;
}

uint64_t lmdb_browse_next(txn *t, const char *name, uint64_t from) {
  int rc = 0;
  uint64_t id = UINT64_MAX;
  const queue *q = queue_find(t, name, &rc);
  for (size_t i = 0; q && i < q->n_priorities; i++)
    for (int space = 0; space < SPACE_COUNT; space++) {
      line l = {q->id, space, q->priorities[i].priority};
      uint64_t first = first_unsettled(t, &l, from);
      if (first < id) id = first;
    }
  return id;
}

int lmdb_browse_item(txn *t, const char *name, int64_t wall, int state,
                     uint64_t id, respool_page *p) {
  int rc = 0;
  look k;
  line l;
  place owner;
  claim c;
  queue *q = look_open(&k, t, name, wall, p, p->n + 1, &rc);
  if (!q || !find_item(t, q, id, &l)) return rc ? rc : t->rc;
  const claim *of = claim_cover(t, &l, id, &owner, &c) ? &c : NULL;
  if (state < 0 || state_of(&k, of) == state) look_at(&k, &l, id, id, of);
  return t->rc;
}

/* ---- leases ------------------------------------------------------------- */

int lmdb_leases(txn *t, const char *name, int64_t wall, leases *out) {
  int rc = 0;
  queue *q = queue_find(t, name, &rc);
  if (!q) return rc;
  int64_t now = queue_now(q, wall);
  place at = {{q->id, 0, 0}, 0, 0}, p;
  claim c;
  while (claim_next(t, q, at, &p, &c)) {
    lease_found f = {{.queue = q->id, .space = p.line.space,
                      .priority = p.line.priority, .first = p.first,
                      .deliveries = c.deliveries},
                     c.token, c.left, c.visible_at};
    if (claim_held(&c, now) && !leases_add(out, &f))
      return fail(RESPOOL_NOMEM, "not enough memory for leases");
    at = p;
    at.first++;
  }
  return t->rc;
}

int lmdb_held(txn *t, const char *name, uint64_t id, uint64_t token,
              bool *yes) {
  int rc = 0;
  line l;
  place p;
  claim c;
  queue *q = queue_find(t, name, &rc);
  if (!q) return rc;
  *yes = find_item(t, q, id, &l) && claim_cover(t, &l, id, &p, &c) &&
         c.state == CLAIM_LEASED && c.token == token;
  return t->rc;
}

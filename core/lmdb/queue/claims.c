/* SPDX-License-Identifier: MIT */
/*
 * Claims: which ids are out of the line, until when, and why. A claim is
 * stored by its place in `claims`, where its range is found by id, and by its
 * time in `due`. Both are written here only. Invariant:
 *
 *   every claim has exactly one entry in `due`, at its visible_at, except one
 *   that is parked: it waits for its partition's turn, and its visible_at is 0.
 */
#include "lmdb/queue/claims.h"

#include "lmdb/env/txn/cur.h"
#include "lmdb/queue/state.h"
#include "lmdb/record/segments.h"
#include "policy/outcome.h"

#include <string.h>

bool claim_get(txn *t, const place *p, claim *c) {
  key k = claim_key(p);
  respool_bytes v;
  if (!txn_get(t, DB_CLAIMS, key_bytes(&k), &v)) return false;
  if (claim_unpack(key_bytes(&k), v, c)) return true;
  txn_fail(t, RESPOOL_CORRUPT);
  return false;
}

bool claim_look(txn *t, const place *p, claim *c) {
  key k = claim_key(p);
  respool_bytes v;
  return txn_get(t, DB_CLAIMS, key_bytes(&k), &v) &&
         claim_unpack(key_bytes(&k), v, c);
}

void claim_own(txn *t, arena *a, claim *c) {
  txn_fail(t, arena_copy(a, c->failures, &c->failures));
  txn_fail(t, arena_copy(a, c->memo, &c->memo));
}

static void put_packed(txn *t, const place *p, packer *out) {
  key k = claim_key(p);
  record_put(t, DB_CLAIMS, key_bytes(&k), out);
  packer_free(out);
}

static void put_due(txn *t, const place *p, int64_t at) {
  queue *q = queue_loaded(t, p->line.queue);
  if (q) time_comes(&q->due_from[p->line.priority], at);
  key k = due_key_of(p, at);
  txn_put_null(t, DB_DUE, key_bytes(&k));
}

static void del_due(txn *t, const place *p, int64_t at) {
  key k = due_key_of(p, at);
  txn_del(t, DB_DUE, key_bytes(&k));
}

static void put_record(txn *t, const place *p, const claim *c) {
  packer out;
  packer_init(&out);
  claim_pack(&out, c);
  put_packed(t, p, &out);
}

void claim_put(txn *t, const place *p, const claim *c) {
  put_record(t, p, c);
  if (c->state != CLAIM_PARKED) put_due(t, p, c->visible_at);
}

/* Packs it first: a claim just read has its failures in the very page that
   the changes of `due` move about. */
void claim_move(txn *t, const place *p, const claim *old, const claim *c) {
  packer out;
  packer_init(&out);
  claim_pack(&out, c);
  if (c->visible_at != old->visible_at) {
    del_due(t, p, old->visible_at);
    if (c->state != CLAIM_PARKED) put_due(t, p, c->visible_at);
  }
  put_packed(t, p, &out);
}

void claim_del(txn *t, const place *p, const claim *old) {
  key k = claim_key(p);
  del_due(t, p, old->visible_at);
  txn_del(t, DB_CLAIMS, key_bytes(&k));
}

bool claim_cover(txn *t, const line *l, uint64_t id, place *p, claim *c) {
  place wanted = {*l, id, 0};
  key k = claim_key(&wanted);
  respool_bytes found, v;
  return txn_floor(t, DB_CLAIMS, key_bytes(&k), &found, &v) &&
         claim_key_read(found, p) && same_line(&p->line, l) &&
         claim_unpack(found, v, c) && c->last >= id;
}

static void pass_claims(txn *t, const line *l, uint64_t *from) {
  place p;
  claim c;
  while (*from < UINT64_MAX && claim_cover(t, l, *from, &p, &c))
    *from = c.last == UINT64_MAX ? c.last : c.last + 1;
}

/* Of a claim that is damaged the end is not known: only its first id is passed
   over. */
bool claim_gap(txn *t, const line *l, uint64_t *from, uint64_t *upto) {
  respool_bytes found, v;
  place p;
  for (pass_claims(t, l, from);; pass_claims(t, l, from)) {
    place start = {*l, *from, 0};
    key k = claim_key(&start);
    *upto = UINT64_MAX;
    if (*from == UINT64_MAX || t->rc) return false;
    if (!txn_seek(t, DB_CLAIMS, key_bytes(&k), &found, &v) ||
        !claim_key_read(found, &p) || !same_line(&p.line, l))
      return !t->rc;
    *upto = p.first - 1;
    if (p.first > *from) return true;
    ++*from;
  }
}

bool claim_next(txn *t, const queue *q, place from, place *p, claim *c) {
  key k = claim_key(&from);
  respool_bytes found, v;
  return txn_seek(t, DB_CLAIMS, key_bytes(&k), &found, &v) &&
         claim_key_read(found, p) && p->line.queue == q->id &&
         claim_unpack(found, v, c);
}

bool claim_first_due(txn *t, const queue *q, int priority, due_key *d) {
  place lowest = {{q->id, 0, priority}, 0, 0};
  key k = due_key_of(&lowest, 0);
  respool_bytes found, none;
  return txn_seek(t, DB_DUE, key_bytes(&k), &found, &none) &&
         due_key_read(found, d) && d->claim.line.queue == q->id &&
         d->claim.line.priority == priority;
}

bool claim_due(txn *t, queue *q, int priority, int64_t now, due_key *d) {
  int64_t *from = &q->due_from[priority];
  if (*from > now) return false;
  bool any = claim_first_due(t, q, priority, d);
  *from = any ? d->at : INT64_MAX;
  return any && d->at <= now;
}

/* ---- counts by state ---------------------------------------------------- */

static uint64_t *counter(priority_state *l, enum count which) {
  switch (which) {
    case COUNT_READY: return &l->ready;
    case COUNT_LEASED: return &l->leased;
    case COUNT_SCHEDULED: return &l->scheduled;
    case COUNT_RETRYING: return &l->retrying;
    default: return NULL;
  }
}

enum count claim_count_waiting(const claim *c) {
  return claim_has_failed(c) ? COUNT_RETRYING : COUNT_SCHEDULED;
}

enum count claim_count(const claim *c) {
  return c->state == CLAIM_LEASED   ? COUNT_LEASED
         : c->state == CLAIM_PARKED ? COUNT_READY : claim_count_waiting(c);
}

void priority_count(txn *t, queue *q, int priority, enum count from,
                    enum count to, uint64_t n) {
  priority_state *l = queue_priority_make(t, q, priority);
  if (!l || n == 0) return;
  uint64_t *less = counter(l, from), *more = counter(l, to);
  if (less) *less -= *less < n ? *less : n;
  if (more) *more += n;
  queue_changed(t, q);
}

/* ---- damaged claims ----------------------------------------------------- */

/* Where the claim at a place ends at the latest. */
static uint64_t end_of(txn *t, const queue *q, const place *p) {
  if (IS_PARTED(&p->line)) return p->first + 1; /* others may have no claim */
  place next = {p->line, p->first + 1, 0};
  key k = claim_key(&next);
  respool_bytes found, v;
  if (txn_seek(t, DB_CLAIMS, key_bytes(&k), &found, &v) &&
      claim_key_read(found, &next) && same_line(&next.line, &p->line))
    return next.first;
  const priority_state *l = queue_priority(q, p->line.priority);
  return p->line.space == SPACE_READY && l ? l->head : UINT64_MAX;
}

/* Counts what claims of a priority say of its items. */
static void recount(txn *t, queue *q, int priority) {
  place p = {{q->id, 0, 0}, 0, 0};
  priority_state *l = queue_priority(q, priority);
  key start = claim_key(&p);
  claim c;
  cur at;
  if (!l) return;
  l->leased = l->scheduled = l->retrying = 0;
  cur_open(&at, t, DB_CLAIMS);
  bool more = cur_seek(&at, key_bytes(&start));
  for (; more && claim_key_read(at.key, &p) && p.line.queue == q->id;
       more = cur_next(&at))
    if (p.line.priority == priority && claim_unpack(at.key, at.value, &c))
      *counter(l, claim_count(&c)) += c.left;
  cur_close(&at);
  queue_changed(t, q);
}

/* The unsettled items that lie before the end. */
static void find_items(txn *t, const place *p, uint64_t end, claim *c) {
  segment_cursor w;
  segments_open(&w, t, &p->line, p->first);
  while (segments_next(&w) && w.at.first < end)
    for (uint32_t i = 0; i < w.at.count && w.at.first + i < end; i++) {
      if (w.at.first + i < p->first || !bits_has(&w.unsettled, i)) continue;
      c->last = w.at.first + i;
      c->left++;
    }
  segments_close(&w);
}

bool claim_mend(txn *t, queue *q, const due_key *d, claim *c) {
  const place *p = &d->claim;
  *c = (claim){.state = CLAIM_WAITING, .visible_at = d->at};
  find_items(t, p, end_of(t, q, p), c);
  if (c->left)
    put_record(t, p, c);
  else
    claim_del(t, p, c);
  q->counters.damaged += c->left;
  recount(t, q, p->line.priority);
  return c->left > 0 && !t->rc;
}

bool claims_take_out(txn *t, queue *q, const line *l, uint64_t id, int64_t now,
                     enum count *from) {
  place p;
  claim old;
  const priority_state *priority = queue_priority(q, l->priority);
  *from = COUNT_READY;
  if (l->space == SPACE_READY && priority && id >= priority->head) return true;
  if (!claim_cover(t, l, id, &p, &old)) return l->space == SPACE_PARTED;
  if (claim_held(&old, now)) return false;
  arena a;
  claim c = old;
  arena_init(&a);
  if (c.state == CLAIM_LEASED) claim_end_lease(t, q, l, &a, &c);
  if (c.state == CLAIM_LEASED) q->counters.crashed++; /* the others: later */
  *from = claim_count(&c);
  c.left--;
  if (c.left)
    claim_move(t, &p, &old, &c);
  else
    claim_del(t, &p, &old);
  arena_free(&a);
  return true;
}

/* Items that were leased in the journal come here without those that were done
   there, so that their claim may begin later: it is the next one, as it alone
   has the token. Claims that were delivered from here have their own place, and
   may share a token. */
static bool claim_from_batch(txn *t, const queue *q, const batch_claim *h,
                             place *p, claim *c) {
  line l = p->line;
  if (l.space != SPACE_JOURNAL || h->deliveries > 1)
    return claim_get(t, p, c);
  return claim_next(t, q, *p, p, c) && same_line(&p->line, &l);
}

bool batch_claim_find(txn *t, const queue *q, const batch_claim *h,
                      uint64_t token, place *p, claim *c) {
  *p = (place){{h->queue, h->space, h->priority}, h->first, 0};
  return h->queue == q->id && claim_from_batch(t, q, h, p, c) &&
         c->state == CLAIM_LEASED && c->token == token;
}

bool claims_journaled(const batch_claim *claims, size_t n) {
  bool any = false;
  for (size_t i = 0; i < n; i++) any |= claims[i].space == SPACE_JOURNAL;
  return any;
}

bool claim_held(const claim *c, int64_t now) {
  return c->state == CLAIM_LEASED && c->visible_at > now;
}

void claim_end_lease(txn *t, queue *q, const line *l, arena *a, claim *c) {
  if (IS_PARTED(l))
    c->token = 0;
  else
    claim_lapse(t, q, l->priority, a, c);
}

void claim_crash(txn *t, arena *a, claim *c) {
  c->failures = failures_with(t, a, c->failures, c->visible_at, &outcome_lapse);
  c->crashes++;
}

void claim_lapse(txn *t, queue *q, int priority, arena *a, claim *c) {
  claim_crash(t, a, c);
  c->state = CLAIM_WAITING;
  c->token = 0;
  q->counters.crashed += c->left;
  priority_count(t, q, priority, COUNT_LEASED, claim_count(c), c->left);
}

/* ---- failures ----------------------------------------------------------- */

respool_bytes failures_with(txn *t, arena *a, respool_bytes old, int64_t at,
                            const outcome_text *w) {
  respool_bytes packed = {NULL, 0};
  txn_fail(t, outcome_add_failure(a, old, at, w, &packed));
  return packed;
}

/* ---- items of partitions without a claim -------------------------------- */

#define PASS_MORE 64 /* claims than a push or a take has made */

uint64_t first_listed(txn *t, const queue *q, int priority) {
  line l = {q->id, SPACE_PARTED, priority};
  const priority_state *s = queue_priority(q, priority);
  uint64_t from = s ? s->listed : 0, upto, id;
  while (claim_gap(t, &l, &from, &upto)) {
    id = first_unsettled(t, &l, from);
    if (id <= upto || upto == UINT64_MAX) return id;
    from = upto + 1;
  }
  return UINT64_MAX;
}

void pass_unlisted(txn *t, queue *q, int priority, size_t most) {
  line l = {q->id, SPACE_PARTED, priority};
  priority_state *s = queue_priority(q, priority);
  place p;
  claim c;
  for (size_t left = most + PASS_MORE; s && left && !t->rc; left--) {
    uint64_t id = first_unsettled(t, &l, s->listed);
    bool covered = id != UINT64_MAX && claim_cover(t, &l, id, &p, &c);
    if (covered) s->listed = c.last + 1;
    if (!covered) return;
  }
}

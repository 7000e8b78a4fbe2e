/* SPDX-License-Identifier: MIT */
/*
 * Leases and their ends. A lease is in the block alone; whatever is more than
 * a lease or "done" is LMDB's: a lease that ran out, an item that is damaged
 * or has expired, one that is about to leave.
 */
#include "base/error.h"
#include "base/fault.h"
#include "lmdb/journal/files/slots.h"
#include "lmdb/journal/files/state.h"
#include "lmdb/journal/flush.h"
#include "record/leases.h"

/* ---- take ---------------------------------------------------------------- */

/* The bounds only fall as items come; those that are over made them low. */
static void find_bounds(control *c, row *q) {
  q->min_until = q->min_expires = JOURNAL_NEVER;
  for (uint32_t i = 0; i < c->unused; i++) {
    const slot *s = &c->slot[i];
    int state = atomic_load(&s->state);
    if (state == SLOT_FREE || &c->row[s->row] != q) continue;
    if (state == SLOT_LEASED && s->until < q->min_until)
      q->min_until = s->until;
    if (state == SLOT_READY && s->expires && s->expires < q->min_expires)
      q->min_expires = s->expires;
  }
}

static bool is_over(control *c, row *q, int64_t now) {
  if (q->min_until > now && q->min_expires > now) return false;
  find_bounds(c, q);
  return q->min_until <= now || q->min_expires <= now;
}

static bool is_flushed(const control *c, const slot *s) {
  uint64_t end = s->pos + s->span;
  return atomic_load(&c->flushed) >= end || atomic_load(&c->freed) >= end;
}

static size_t body_of(const journal_item *i) {
  return payload_body(i->packed.data, i->packed.size);
}

static uint64_t least(uint64_t a, uint64_t b) {
  return a < b ? a : b;
}

/* Are there live items of another lease between the last of this one and `s`?
   LMDB has one claim for the items of a lease, and claims never overlap. */
static bool is_apart(control *c, const row *q, const journal_take_req *r,
                     const slot *s) {
  size_t k = r->n;
  while (k > 0 && r->items[k - 1].priority != s->priority) k--;
  uint64_t id = k ? r->items[k - 1].id + 1 : s->id;
  if (s->id > id + JOURNAL_BATCH) return true;
  for (; id < s->id; id++) {
    const slot *between = slot_find(c, q, id);
    if (between && between->priority == s->priority) return true;
  }
  return false;
}

static void note_delivery(row *q, const journal_item *i, int64_t now) {
  int64_t waited = now - i->time;
  histogram_add(&q->figures.wait, waited > 0 ? (uint64_t)waited * 1000 : 0, 1);
  q->figures.delivered_bytes += body_of(i);
}

static uint64_t next_token(control *c, uint64_t least) {
  uint64_t last = atomic_load(&c->token), next;
  do
    next = last + 1 > least ? last + 1 : least;
  while (!atomic_compare_exchange_weak(&c->token, &last, next));
  return next;
}

enum { TAKE_END, TAKE_GOT, TAKE_ELSEWHERE };

/* Hands out the next item, or says why not. `flush` becomes its record's
   end when that is not on disk. */
static int take_one(journal *j, row *q, journal_take_req *r, uint64_t room,
                    slot_window *w, uint64_t *flush) {
  control *c = j->c;
  uint32_t before;
  slot *s = slot_first(c, q, &before);
  if (!s || is_apart(c, q, r, s)) return TAKE_END;
  if (s->pos < atomic_load(&c->applying)) return TAKE_ELSEWHERE;
  if (!is_flushed(c, s)) {
    *flush = s->pos + s->span;
    return TAKE_END;
  }
  journal_item *i = &r->items[r->n];
  slot_tell(q->number, s, i);
  int rc = slot_read(j, s, w, r->to, i);
  if (rc) return rc;
  if (i->damaged) return TAKE_ELSEWHERE;
  if (r->n && body_of(i) > room) return TAKE_END;
  i->token = r->n ? r->items->token
                  : token_make(next_token(c, 0), r->worker);
  i->until = r->until;
  FAULT_POINT("journal leasing");
  slot_lease(c, q, s, before, i->token, i->until);
  q->delivered++;
  note_delivery(q, i, r->now);
  r->n++;
  return TAKE_GOT;
}

/* Has LMDB something by its latest view? That counts once: a take there that
   finds nothing changes no view. */
static bool lmdb_is_ready(row *q, int64_t now) {
  int64_t at = q->lmdb_at;
  return at && at <= now && atomic_compare_exchange_strong(&q->lmdb_at, &at, 0);
}

/* With the state lock. */
static int take(journal *j, journal_take_req *r, uint64_t *flush) {
  control *c = j->c;
  row *q = row_find(c, r->queue);
  uint64_t room = r->bytes;
  slot_window w = {.wanted = room < JOURNAL_PUSH ? 1 : r->max - r->n};
  int rc = TAKE_GOT;
  for (size_t i = 0; i < r->n; i++) room -= least(body_of(&r->items[i]), room);
  r->ready = q && q->known && lmdb_is_ready(q, r->now);
  if (!q || !q->known || q->lmdb_at <= r->now || is_over(c, q, r->now) ||
      row_went_back(q, r->now))
    return JOURNAL_ELSEWHERE;
  while (rc == TAKE_GOT && r->n < r->max) {
    size_t had = r->n;
    rc = take_one(j, q, r, room, &w, flush);
    if (r->n == had) continue;
    room -= least(body_of(&r->items[had]), room);
  }
  q->used = ++c->used;
  r->next = q->lmdb_at < q->min_until ? q->lmdb_at : q->min_until;
  if (q->min_expires < r->next) r->next = q->min_expires;
  if (rc < 0) return r->n ? 0 : rc;
  return rc == TAKE_ELSEWHERE && !r->n ? JOURNAL_ELSEWHERE : 0;
}

/* Ensures: the items of a lease are consecutive among the live ones of their
   priority, also when some come only after a flush, while others took the ones
   between, or all before them went to LMDB. */
int journal_take(journal *j, journal_take_req *r) {
  r->n = 0;
  r->next = JOURNAL_NEVER;
  r->ready = false;
  uint64_t applied = 0;
  for (int tries = 0; tries < 2; tries++) {
    uint64_t flush = 0;
    int rc = state_enter(j, false);
    if (rc) return r->n ? 0 : rc;
    rc = log_reopen(j);
    if (!rc && (!r->n || applied_point(j->c).pos == applied))
      rc = take(j, r, &flush);
    applied = applied_point(j->c).pos;
    state_leave(j);
    if (rc && r->n) return 0;
    if (rc || !flush) return rc;
    rc = journal_flush(j, flush); /* who pushed it may have died */
    if (rc && r->n) return 0;
    if (rc) return rc == RESPOOL_UNKNOWN_OUTCOME ? RESPOOL_IO : rc;
  }
  if (!r->n) r->next = r->now;
  return 0;
}

int journal_token(journal *j, uint64_t least, uint64_t *number) {
  int rc = control_usable(j);
  if (!rc) *number = next_token(j->c, least);
  return rc;
}

/* ---- settle -------------------------------------------------------------- */

static int judge_one(control *c, const row *q, uint64_t id, uint64_t token) {
  const slot *s = q ? slot_find(c, q, id) : NULL;
  if (!s || s->pos < atomic_load(&c->applying)) return JOURNAL_IN_LMDB;
  bool ours = atomic_load(&s->state) == SLOT_LEASED && s->token == token;
  return ours ? JOURNAL_DONE : JOURNAL_LOST;
}

/* How many are DONE; `others` tells which other outcomes there are. */
static size_t judge(control *c, const journal_done_req *r, unsigned *others) {
  const row *q = row_find(c, r->queue);
  size_t n = 0;
  *others = 0;
  for (size_t i = 0; i < r->n; i++) {
    int o = judge_one(c, q, r->ids[i], r->tokens[i]);
    r->outcome[i] = (uint8_t)o;
    if (o == JOURNAL_DONE)
      n++;
    else
      *others |= 1u << o;
  }
  return n;
}

/* An id that comes twice is LOST the second time. */
static void end_items(control *c, const row *q, journal_done_req *r) {
  for (size_t i = 0; i < r->n; i++) {
    if (r->outcome[i] != JOURNAL_DONE) continue;
    slot *s = slot_find(c, q, r->ids[i]);
    if (s) {
      slot_done(c, s);
      r->done++;
    } else
      r->outcome[i] = JOURNAL_LOST;
  }
}

static void build(journal *j, const journal_done_req *r, size_t n) {
  record *rec = (void *)j->record;
  uint64_t *ids = (void *)(rec + 1);
  *rec = (record){.queue = r->queue, .time = r->now, .kind = RECORD_DONE,
                  .len = (uint32_t)(sizeof *rec + n * sizeof *ids),
                  .count = (uint16_t)n};
  for (size_t i = 0; i < r->n; i++)
    if (r->outcome[i] == JOURNAL_DONE) *ids++ = r->ids[i];
}

/* With the state lock. */
static int done(journal *j, journal_done_req *r, bool strict) {
  control *c = j->c;
  unsigned others;
  size_t n = judge(c, r, &others);
  if (strict && others & 1u << JOURNAL_IN_LMDB) return JOURNAL_ELSEWHERE;
  if (!n || (strict && others)) return 0;
  size_t len = sizeof(record) + n * sizeof(uint64_t);
  if (len > JOURNAL_PUSH || !log_room(j, len, (c->live - n) * DONE_ROOM))
    return JOURNAL_ELSEWHERE;
  build(j, r, n);
  int rc = log_write(j);
  if (rc) return rc;
  row *q = row_find(c, r->queue);
  log_advance(j); /* first: a repair keeps the leases of live items alone */
  end_items(c, q, r);
  if (r->handle) histogram_merge(&q->figures.handle, r->handle);
  r->end = atomic_load(&c->tail);
  r->due = log_due(c);
  return 0;
}

int journal_done(journal *j, journal_done_req *r, bool strict) {
  r->done = 0;
  r->end = 0;
  r->due = false;
  int rc = state_enter(j, false);
  if (rc) return rc;
  rc = log_reopen(j);
  if (!rc) rc = done(j, r, strict);
  state_leave(j);
  return rc;
}

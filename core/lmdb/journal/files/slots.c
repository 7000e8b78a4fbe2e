/* SPDX-License-Identifier: MIT */
/*
 * The tables of the control block; see slots.h. The hash table probes
 * linearly; what is taken out is closed up, so that it holds no tombstones.
 */
#include "lmdb/journal/files/slots.h"

#include <string.h>
#include <unistd.h>

#include "base/error.h"

/* ---- rows ---------------------------------------------------------------- */

static void row_clear(row *r) {
  r->ready = r->leased = r->bytes = 0;
  r->old = r->fresh = (tally){0};
  r->first = r->last = 0;
  r->mixed = 0;
  r->min_until = r->min_expires = JOURNAL_NEVER;
}

row *row_find(control *c, uint64_t number) {
  for (int i = 0; i < JOURNAL_QUEUES; i++)
    if (c->row[i].number == number) return &c->row[i];
  return NULL;
}

void row_free(row *r) {
  r->number = 0;
}

/* Has it nothing that LMDB does not have? */
static bool is_idle(const row *r) {
  return !r->ready && !r->leased && !r->old.pushed && !r->fresh.pushed &&
         r->delivered == r->delivered_stored && r->stored_next >= r->next_id;
}

/* A free row, or that of the queue that was idle longest. */
row *row_make(control *c, uint64_t number) {
  row *best = row_find(c, 0);
  for (int i = 0; i < JOURNAL_QUEUES && (!best || best->number); i++) {
    row *r = &c->row[i];
    if (is_idle(r) && (!best || r->used < best->used)) best = r;
  }
  if (!best) return NULL;
  row_free(best);
  memset((void *)((char *)best + sizeof best->number), 0,
         sizeof *best - sizeof best->number);
  row_clear(best);
  best->next_id = 1;
  best->used = ++c->used;
  best->number = number;
  return best;
}

void row_raise_clock(row *r, int64_t now) {
  int64_t at = atomic_load(&r->clock);
  while (at < now && !atomic_compare_exchange_weak(&r->clock, &at, now))
    ;
}

bool row_went_back(row *r, int64_t now) {
  row_raise_clock(r, now);
  return atomic_load(&r->clock) - now >= JOURNAL_STEP;
}

uint64_t row_ids(row *r, uint64_t least, uint64_t n) {
  uint64_t at = atomic_load(&r->next_id), first;
  do
    first = at > least ? at : least;
  while (!atomic_compare_exchange_weak(&r->next_id, &at, first + n));
  return first;
}

/* ---- the hash table ------------------------------------------------------ */

static uint32_t home(const control *c, const row *r, uint64_t id) {
  uint64_t x = (id + 1) * 0x9e3779b97f4a7c15u ^
               ((uint64_t)(r - c->row) + 1) * 0xc2b2ae3d27d4eb4fu;
  return (uint32_t)(x >> 40) & (INDEX_SIZE - 1);
}

static uint32_t home_of(const control *c, const slot *s) {
  return home(c, &c->row[s->row], s->id);
}

static uint32_t number_of(const control *c, const slot *s) {
  return (uint32_t)(s - c->slot) + 1;
}

static void index_add(control *c, const slot *s) {
  uint32_t i = home_of(c, s);
  while (c->index[i]) i = (i + 1) & (INDEX_SIZE - 1);
  c->index[i] = (uint16_t)number_of(c, s);
}

static uint32_t index_find(const control *c, const row *r, uint64_t id) {
  uint32_t i = home(c, r, id);
  for (; c->index[i]; i = (i + 1) & (INDEX_SIZE - 1)) {
    const slot *s = &c->slot[c->index[i] - 1];
    if (s->id == id && s->row == r - c->row) break;
  }
  return i;
}

static void index_remove(control *c, const slot *s) {
  uint32_t hole = index_find(c, &c->row[s->row], s->id);
  for (uint32_t i = hole;;) {
    i = (i + 1) & (INDEX_SIZE - 1);
    if (!c->index[i]) break;
    uint32_t at = home_of(c, &c->slot[c->index[i] - 1]);
    if (((i - at) & (INDEX_SIZE - 1)) < ((i - hole) & (INDEX_SIZE - 1)))
      continue; /* it must stay behind its home */
    c->index[hole] = c->index[i];
    hole = i;
  }
  c->index[hole] = 0;
}

slot *slot_find(control *c, const row *r, uint64_t id) {
  uint32_t n = c->index[index_find(c, r, id)];
  return n ? &c->slot[n - 1] : NULL;
}

/* ---- items --------------------------------------------------------------- */

void slots_clear(control *c) {
  for (uint32_t i = 0; i < JOURNAL_ITEMS; i++) {
    atomic_store_explicit(&c->slot[i].state, SLOT_FREE,
                          memory_order_relaxed);
    c->slot[i].next = 0;
  }
  for (int i = 0; i < JOURNAL_QUEUES; i++) row_clear(&c->row[i]);
  memset(c->index, 0, sizeof c->index);
  c->live = 0;
  c->free = 0;
  c->unused = 0;
}

bool slots_fit(const control *c, size_t n) {
  return c->live + n <= JOURNAL_ITEMS;
}

static slot *slot_new(control *c) {
  if (!c->free) return &c->slot[c->unused++];
  slot *s = &c->slot[c->free - 1];
  c->free = s->next;
  return s;
}

static void slot_give_back(control *c, slot *s) {
  index_remove(c, s);
  atomic_store(&s->state, SLOT_FREE);
  s->next = c->free;
  c->free = number_of(c, s);
  c->live--;
}

static void list_append(control *c, row *r, slot *s) {
  s->next = 0;
  if (!r->first) {
    r->priority = s->priority;
    r->mixed = 0;
    r->first = number_of(c, s);
  } else {
    if (r->priority != s->priority) r->mixed = 1;
    c->slot[r->last - 1].next = number_of(c, s);
  }
  r->last = number_of(c, s);
}

static void list_remove(control *c, row *r, const slot *s, uint32_t before) {
  if (before)
    c->slot[before - 1].next = s->next;
  else
    r->first = s->next;
  if (r->last == number_of(c, s)) r->last = before;
}

/* The item before it in its queue's list. */
static uint32_t list_before(const control *c, const row *r, const slot *s) {
  uint32_t before = 0;
  for (uint32_t n = r->first; n && n != number_of(c, s);
       n = c->slot[n - 1].next)
    before = n;
  return before;
}

static void slot_add(control *c, row *r, const record *rec, uint64_t id,
                     uint32_t at, const piece *p) {
  slot *s = slot_new(c);
  s->id = id;
  s->pos = rec->pos;
  s->token = 0;
  s->time = rec->time;
  s->expires = rec->expires;
  s->until = 0;
  s->at = at;
  s->len = p->len;
  s->sum = p->sum;
  s->span = rec->len;
  s->row = (uint16_t)(r - c->row);
  s->priority = rec->priority;
  atomic_store(&s->state, SLOT_READY);
  list_append(c, r, s);
  index_add(c, s);
  c->live++;
  r->ready++;
  r->bytes += p->len;
  r->fresh.pushed++;
  if (s->expires && s->expires < r->min_expires) r->min_expires = s->expires;
}

bool slots_add(control *c, row *r, const record *rec) {
  if (!slots_fit(c, rec->count)) return false;
  const piece *p = (const void *)(rec + 1);
  uint32_t at = (uint32_t)(sizeof *rec + rec->count * sizeof *p);
  for (uint16_t i = 0; i < rec->count; i++) {
    slot_add(c, r, rec, rec->first + i, at, &p[i]);
    r->fresh.pushed_bytes += payload_body((const uint8_t *)rec + at, p[i].len);
    at += p[i].len;
  }
  (void)row_ids(r, rec->first + rec->count, 0);
  return true;
}

slot *slot_first(control *c, const row *r, uint32_t *before) {
  uint32_t best = 0, last = 0;
  *before = 0;
  for (uint32_t n = r->first; n; last = n, n = c->slot[n - 1].next) {
    if (best && c->slot[n - 1].priority <= c->slot[best - 1].priority)
      continue;
    best = n;
    *before = last;
    if (!r->mixed) break;
  }
  return best ? &c->slot[best - 1] : NULL;
}

void slot_lease(control *c, row *r, slot *s, uint32_t before, uint64_t token,
                int64_t until) {
  list_remove(c, r, s, before);
  s->token = token;
  s->until = until;
  r->ready--;
  r->leased++;
  if (until < r->min_until) r->min_until = until;
  atomic_store(&s->state, SLOT_LEASED);
}

void slot_lease_again(control *c, slot *s, uint64_t token, int64_t until) {
  row *r = &c->row[s->row];
  slot_lease(c, r, s, list_before(c, r, s), token, until);
}

/* In which half was it pushed? */
static tally *slot_tally(control *c, const slot *s) {
  row *r = &c->row[s->row];
  return s->pos < c->current.pos ? &r->old : &r->fresh;
}

static void slot_leave(control *c, slot *s) {
  row *r = &c->row[s->row];
  if (atomic_load(&s->state) == SLOT_READY) {
    list_remove(c, r, s, list_before(c, r, s));
    r->ready--;
  } else
    r->leased--;
  r->bytes -= s->len;
  slot_give_back(c, s);
}

void slot_done(control *c, slot *s) {
  slot_tally(c, s)->done++;
  slot_leave(c, s);
}

/* The lists of ready items are in order of position: those that go are at the
   front. */
void slots_drop(control *c, uint64_t before) {
  for (int i = 0; i < JOURNAL_QUEUES; i++) {
    row *r = &c->row[i];
    while (r->first && c->slot[r->first - 1].pos < before)
      slot_leave(c, &c->slot[r->first - 1]);
    r->min_until = r->min_expires = JOURNAL_NEVER;
  }
  for (uint32_t i = 0; i < c->unused; i++) {
    slot *s = &c->slot[i];
    int state = atomic_load_explicit(&s->state, memory_order_relaxed);
    if (state == SLOT_FREE) continue;
    row *r = &c->row[s->row];
    if (state == SLOT_LEASED && s->pos < before)
      slot_leave(c, s);
    else if (state == SLOT_LEASED && s->until < r->min_until)
      r->min_until = s->until;
    if (s->pos >= before && s->expires && s->expires < r->min_expires)
      r->min_expires = s->expires;
  }
}

/* ---- payloads ------------------------------------------------------------ */

/* As many bytes as the items that are wanted have, if they are like this one
   and have a record each; within the half, and not more than a push has. */
static size_t window_size(const journal *j, const slot *s, size_t wanted) {
  uint64_t half = j->c->half, left = half - s->pos % half - s->at;
  uint64_t size = wanted > 1 ? wanted * (s->len + sizeof(record)) : s->len;
  if (size > JOURNAL_PUSH) size = JOURNAL_PUSH;
  if (size > left) size = left;
  return size > s->len ? (size_t)size : s->len;
}

static int window_read(const journal *j, const slot *s, off_t at,
                       slot_window *w, arena *to) {
  w->at = at;
  w->len = window_size(j, s, w->wanted);
  w->bytes = arena_alloc(to, w->len ? w->len : 1);
  if (!w->bytes) return fail(RESPOOL_NOMEM, "not enough memory for an item");
  ssize_t got = pread(j->fd, w->bytes, w->len, at);
  if (got < (ssize_t)s->len)
    return fail(RESPOOL_IO, "cannot read an item from the journal");
  w->len = (size_t)got;
  return 0;
}

int slot_read(const journal *j, const slot *s, slot_window *w, arena *to,
              journal_item *i) {
  off_t at = log_place(j->c->half, s->pos) + s->at;
  bool within = at >= w->at && at + s->len <= w->at + (off_t)w->len;
  int rc = within && w->bytes ? 0 : window_read(j, s, at, w, to);
  if (rc) {
    w->bytes = NULL;
    return rc;
  }
  if (w->wanted) w->wanted--;
  const uint8_t *p = w->bytes + (at - w->at);
  i->packed = (respool_bytes){p, s->len};
  i->damaged = payload_sum(p, s->len, s->id) != s->sum;
  return 0;
}

void slot_tell(uint64_t queue, const slot *s, journal_item *i) {
  *i = (journal_item){.queue = queue, .id = s->id,
                      .time = s->time, .expires = s->expires,
                      .priority = s->priority};
  if (atomic_load(&s->state) != SLOT_LEASED) return;
  i->token = s->token;
  i->until = s->until;
}

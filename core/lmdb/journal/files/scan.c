/* SPDX-License-Identifier: MIT */
/*
 * The block, built from the file; see scan.h. A repair is the same as an
 * opening, but that it must reach the tail: there is no order of changes in
 * the block to reason about, except that an appended record counts when the
 * tail has moved behind it, and a lease when its slot says so.
 */
#include "lmdb/journal/files/scan.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "record/leases.h"

#define NOT_LOADED UINT64_MAX

/* ---- the walk ------------------------------------------------------------ */

/* A walk over the chained records from a point to `limit`, or as far as the log
   is whole; at most into the half after the one it begins in. */
typedef struct trail {
  int fd, rc;
  uint64_t half, last_epoch, loaded, limit;
  point at, current; /* behind the last record; where its half began */
  uint8_t *bytes;    /* of the loaded epoch */
} trail;

static int trail_open(trail *w, int fd, uint64_t half, point from,
                      uint64_t limit) {
  *w = (trail){.fd = fd, .half = half, .last_epoch = from.pos / half + 1,
              .loaded = NOT_LOADED, .limit = limit, .at = from,
              .current = from};
  w->bytes = malloc(half);
  if (!w->bytes)
    w->rc = fail(RESPOOL_NOMEM, "not enough memory to read the journal");
  return w->rc;
}

static void trail_close(const trail *w) {
  free(w->bytes);
}

static bool load(trail *w) {
  uint64_t epoch = w->at.pos / w->half;
  if (w->loaded == epoch) return true;
  off_t at = log_place(w->half, epoch * w->half);
  if (pread(w->fd, w->bytes, w->half, at) != (ssize_t)w->half) {
    w->rc = fail(RESPOOL_IO, "cannot read the journal");
    return false;
  }
  w->loaded = epoch;
  return true;
}

/* Goes to the other half: at END, or where a header has no room. */
static bool cross(trail *w, const record *end) {
  uint64_t epoch = w->at.pos / w->half + 1;
  if (epoch > w->last_epoch) return false;
  w->at = (point){epoch * w->half, end ? end->sum : w->at.chain};
  w->current = w->at;
  return true;
}

/* PUSH or DONE; NULL: the end, or w->rc. */
static const record *trail_next(trail *w) {
  while (!w->rc && w->at.pos < w->limit && load(w)) {
    uint64_t left = w->half - w->at.pos % w->half;
    const record *r = record_at(w->bytes, w->half, w->at.pos);
    if (r && !record_follows(r, w->at.chain)) r = NULL;
    if (left < sizeof *r || (r && r->kind == RECORD_END)) {
      if (!cross(w, r)) return NULL;
      continue;
    }
    if (r) w->at = (point){r->pos + r->len, r->sum};
    return r;
  }
  return NULL;
}

/* ---- building ------------------------------------------------------------ */

static int damaged(const char *what) {
  return fail(RESPOOL_CORRUPT, "the journal is damaged: %s", what);
}

static int build_push(control *c, const record *r) {
  row *q = row_find(c, r->queue);
  if (!q) q = row_make(c, r->queue);
  if (!q || !r->queue) return damaged("too many queues");
  return slots_add(c, q, r) ? 0 : damaged("too many items");
}

/* Of items that were applied before, and of queues that have no row since,
   there is nothing to end. */
static void build_done(control *c, const record *r) {
  const uint64_t *ids = (const void *)(r + 1);
  const row *q = row_find(c, r->queue);
  for (int i = 0; i < r->count && q; i++) {
    slot *s = slot_find(c, q, ids[i]);
    if (s) slot_done(c, s);
  }
}

static int build_record(control *c, const record *r) {
  if (r->kind == RECORD_PUSH) return build_push(c, r);
  build_done(c, r);
  return 0;
}

static void build_half(control *c, const trail *w) {
  if (c->current.pos == w->current.pos) return;
  log_half_is_old(c);
  c->current = w->current;
}

int scan_build(control *c, int fd, point from, uint64_t limit) {
  trail w;
  const record *r;
  slots_clear(c);
  c->current = from;
  int rc = trail_open(&w, fd, c->half, from, limit);
  while (!rc && (r = trail_next(&w)) != NULL) {
    build_half(c, &w);
    rc = build_record(c, r);
  }
  if (!rc) rc = w.rc;
  build_half(c, &w);
  if (!rc && limit != UINT64_MAX && w.at.pos != limit)
    rc = damaged("it does not reach its tail");
  c->chain = w.at.chain;
  if (!rc) atomic_store(&c->tail, w.at.pos);
  trail_close(&w);
  return rc;
}

/* ---- leases kept over it ------------------------------------------------- */

/* Ensures: a process that dies while the slots are built anew loses no lease:
   what was kept by the first to try is what the next goes by. */
static void leases_keep(control *c) {
  uint32_t n = 0;
  if (atomic_load(&c->n_kept)) return;
  for (size_t i = 0; i < JOURNAL_ITEMS; i++) {
    const slot *s = &c->slot[i];
    if (atomic_load(&s->state) != SLOT_LEASED || s->row >= JOURNAL_QUEUES)
      continue;
    uint64_t queue = c->row[s->row].number;
    if (queue) c->kept[n++] = (kept){queue, s->id, s->token, s->until};
  }
  atomic_store(&c->n_kept, n + 1);
}

static void lease_give(control *c, const kept *k) {
  const row *r = row_find(c, k->queue);
  slot *s = r ? slot_find(c, r, k->id) : NULL;
  if (s && atomic_load(&s->state) == SLOT_READY)
    slot_lease_again(c, s, k->token, k->until);
}

static void leases_give(control *c) {
  uint32_t n = atomic_load(&c->n_kept);
  for (uint32_t i = 0; i + 1 < n; i++) {
    lease_give(c, &c->kept[i]);
    FAULT_POINT("journal lease kept");
  }
  atomic_store(&c->n_kept, 0);
}

int scan_repair(journal *j) {
  control *c = j->c;
  int rc = 0;
  leases_keep(c);
  point from = applied_point(c);
  FAULT_POINT("journal repair");
  if (atomic_load(&c->made) == MADE_YES) {
    rc = log_reopen(j);
    if (!rc) rc = scan_build(c, j->fd, from, atomic_load(&c->tail));
    if (!rc) leases_give(c);
  } else {
    slots_clear(c);
    leases_give(c);
  }
  if (atomic_load(&c->applying) <= from.pos) atomic_store(&c->applying, 0);
  atomic_fetch_add(&c->repairs, 1);
  return rc;
}

/* ---- the first to open --------------------------------------------------- */

/* A half that LMDB still needs was begun anew: LMDB is older than its
   journal. Goes by the first record of each half. */
static int look_for_later(const control *c, int fd, point from) {
  uint64_t epoch = from.pos / c->half;
  uint8_t *bytes = malloc(c->half);
  if (!bytes)
    return fail(RESPOOL_NOMEM, "not enough memory to read the journal");
  int rc = 0;
  for (uint64_t k = 0; k < 2 && !rc; k++) {
    const record *r = (const void *)bytes;
    if (pread(fd, bytes, c->half, log_place(c->half, k * c->half)) !=
        (ssize_t)c->half)
      rc = fail(RESPOOL_IO, "cannot read the journal");
    else if (r->pos % c->half == 0 && r->pos / c->half % 2 == k &&
             r->pos / c->half >= epoch + 2 &&
             record_at(bytes, c->half, r->pos))
      rc = fail(RESPOOL_CORRUPT, "the data file is older than the journal: "
                "they are not of one time; see respool repair");
  }
  free(bytes);
  return rc;
}

/* Writes of a process that was killed may not be on disk, and its flush may
   have failed. */
static int make_durable(const journal *j, point from) {
  if (from.pos == atomic_load(&j->c->tail)) return 0;
  int rc = log_write_again(j, from.pos);
  if (rc) return rc;
  return fdatasync(j->fd) ? fail(RESPOOL_IO, "cannot flush the journal") : 0;
}

/* Are its leases of this boot, and of this file? */
static bool is_kept(const control *c, const char boot[40]) {
  return c->layout == CONTROL_LAYOUT && c->size == sizeof *c && boot[0] &&
         !memcmp(c->boot, boot, sizeof c->boot);
}

static void forget_block(control *c) {
  static const size_t begin = offsetof(control, due_told);
  memset((char *)c + begin, 0, sizeof *c - begin);
}

static void set_positions(control *c, point from) {
  atomic_store(&c->which, 0);
  c->applied[0] = from;
  atomic_store(&c->applied_pos, from.pos);
  atomic_store(&c->applying, 0);
  atomic_store(&c->freed, from.pos);
  atomic_store(&c->flushed, atomic_load(&c->tail));
  atomic_store(&c->failed, 0);
}

/* Their numbers rise over restarts: on from where they were, or, where that is
   not known, from the time on, by which four takes a millisecond are made up
   for. They have TOKEN_NUMBER_BITS. */
static void begin_tokens(control *c, int64_t now) {
  uint64_t least = (uint64_t)now << 2, at = atomic_load(&c->token);
  if (at < least || at >> (TOKEN_NUMBER_BITS - 1))
    atomic_store(&c->token, least);
}

static void begin_block(control *c) {
  c->layout = CONTROL_LAYOUT;
  c->size = sizeof *c;
  control_boot(c->boot);
  for (int i = 0; i < 4; i++) atomic_store(&c->dirty[i], 0);
  for (int i = 0; i < JOURNAL_QUEUES; i++) {
    c->row[i].known = 0;
    c->row[i].lmdb_at = 0;
  }
  struct clock wall = {.manual = false};
  begin_tokens(c, clock_now(&wall));
}

int scan_first(journal *j, point from) {
  control *c = j->c;
  char boot[40];
  int rc = 0;
  control_boot(boot);
  if (is_kept(c, boot))
    leases_keep(c);
  else
    forget_block(c);
  begin_block(c);
  if (j->fd >= 0) {
    rc = look_for_later(c, j->fd, from);
    if (!rc) rc = scan_build(c, j->fd, from, UINT64_MAX);
    if (!rc) leases_give(c);
    if (!rc) rc = make_durable(j, from);
  } else {
    slots_clear(c);
    c->current = from;
    c->chain = from.chain;
    atomic_store(&c->tail, from.pos);
    leases_give(c);
  }
  FAULT_POINT("journal scanned");
  if (!rc) set_positions(c, from);
  return rc;
}

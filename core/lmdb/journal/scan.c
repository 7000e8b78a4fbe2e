/* SPDX-License-Identifier: MIT */
/*
 * The block, built from the file; see scan.h. A repair is the same as an
 * opening, but that it must reach the tail: there is no order of changes in
 * the block to reason about, except that an appended record counts when the
 * tail has moved behind it, and a lease when its slot says so.
 */
#include "lmdb/journal/scan.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"

#define NOT_LOADED UINT64_MAX

/* ---- the walk ------------------------------------------------------------ */

int trail_open(trail *w, int fd, uint64_t half, point from, uint64_t limit) {
  *w = (trail){.fd = fd, .half = half, .last_epoch = from.pos / half + 1,
              .loaded = NOT_LOADED, .limit = limit, .at = from,
              .current = from};
  w->bytes = malloc(half);
  if (!w->bytes)
    w->rc = fail(RESPOOL_NOMEM, "not enough memory to read the journal");
  return w->rc;
}

void trail_close(trail *w) {
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

/* To the other half: told by END, or by having no room for a header. */
static bool cross(trail *w, const record *end) {
  uint64_t epoch = w->at.pos / w->half + 1;
  if (epoch > w->last_epoch) return false;
  w->at = (point){epoch * w->half, end ? end->sum : w->at.chain};
  w->current = w->at;
  return true;
}

const record *trail_next(trail *w) {
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

typedef struct kept {
  uint64_t queue, id, token;
  int64_t until;
} kept;

typedef struct leases {
  kept *of;
  size_t n;
} leases;

static int leases_keep(const control *c, leases *l) {
  *l = (leases){malloc(JOURNAL_ITEMS * sizeof *l->of), 0};
  if (!l->of)
    return fail(RESPOOL_NOMEM, "not enough memory to repair the journal");
  for (size_t i = 0; i < JOURNAL_ITEMS; i++) {
    const slot *s = &c->slot[i];
    if (atomic_load(&s->state) != SLOT_LEASED || s->row >= JOURNAL_QUEUES)
      continue;
    uint64_t queue = c->row[s->row].number;
    if (queue) l->of[l->n++] = (kept){queue, s->id, s->token, s->until};
  }
  return 0;
}

static void leases_give(control *c, const leases *l) {
  for (size_t i = 0; i < l->n; i++) {
    const kept *k = &l->of[i];
    const row *r = row_find(c, k->queue);
    slot *s = r ? slot_find(c, r, k->id) : NULL;
    if (s && atomic_load(&s->state) == SLOT_READY)
      slot_lease_again(c, s, k->token, k->until);
  }
}

int scan_repair(journal *j) {
  control *c = j->c;
  leases l;
  int rc = leases_keep(c, &l);
  if (rc) return rc;
  point from = applied_point(c);
  FAULT_POINT("journal repair");
  if (atomic_load(&c->made) == MADE_YES) {
    rc = log_reopen(j);
    if (!rc) rc = scan_build(c, j->fd, from, atomic_load(&c->tail));
    if (!rc) leases_give(c, &l);
  } else
    slots_clear(c);
  if (atomic_load(&c->applying) <= from.pos) atomic_store(&c->applying, 0);
  atomic_fetch_add(&c->repairs, 1);
  free(l.of);
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

/* What a process wrote that was killed may not be on disk; and after a flush
   that failed the kernel calls pages clean that never got there. So what is
   built upon is written again, then flushed. */
static int write_again(const journal *j, point from) {
  uint8_t page[PAGE];
  const control *c = j->c;
  uint64_t tail = atomic_load(&c->tail);
  if (from.pos == tail || j->unsynced) return 0;
  for (uint64_t pos = from.pos / PAGE * PAGE; pos < tail; pos += PAGE) {
    off_t at = log_place(c->half, pos);
    if (pread(j->fd, page, PAGE, at) != PAGE ||
        pwrite(j->fd, page, PAGE, at) != PAGE)
      return fail(RESPOOL_IO, "cannot write the journal again");
  }
  FAULT_POINT("journal written again");
  return fdatasync(j->fd) ? fail(RESPOOL_IO, "cannot flush the journal") : 0;
}

/* Are its leases of this boot, and of this file? */
static bool is_kept(const control *c, const char boot[40]) {
  return c->layout == CONTROL_LAYOUT && c->size == sizeof *c && boot[0] &&
         !memcmp(c->boot, boot, sizeof c->boot);
}

static void forget_block(control *c) {
  static const size_t begin = offsetof(control, token);
  memset((char *)c + begin, 0, sizeof *c - begin);
}

static void set_positions(control *c, point from) {
  atomic_store(&c->which, 0);
  c->applied[0] = from;
  atomic_store(&c->applying, 0);
  atomic_store(&c->freed, from.pos);
  atomic_store(&c->flushed, atomic_load(&c->tail));
  atomic_store(&c->failed, 0);
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
  uint64_t token = (uint64_t)clock_now(&wall) << 20;
  if (atomic_load(&c->token) < token) atomic_store(&c->token, token);
}

int scan_first(journal *j, point from) {
  control *c = j->c;
  char boot[40];
  leases l = {NULL, 0};
  control_boot(boot);
  int rc = is_kept(c, boot) ? leases_keep(c, &l) : 0;
  if (rc) return rc;
  if (!l.of) forget_block(c);
  begin_block(c);
  if (j->fd >= 0) {
    rc = look_for_later(c, j->fd, from);
    if (!rc) rc = scan_build(c, j->fd, from, UINT64_MAX);
    if (!rc) leases_give(c, &l);
    if (!rc) rc = write_again(j, from);
  } else {
    slots_clear(c);
    c->current = from;
    c->chain = from.chain;
    atomic_store(&c->tail, from.pos);
  }
  free(l.of);
  FAULT_POINT("journal scanned");
  if (!rc) set_positions(c, from);
  return rc;
}

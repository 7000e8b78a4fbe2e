/* SPDX-License-Identifier: MIT */
/*
 * Looking at what is alive, with a block and without one.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "lmdb/journal/files/scan.h"
#include "lmdb/journal/files/state.h"

/* The bound of the leases is often too low. */
static void count_lapsed(control *c, const row *r, int64_t now,
                         journal_counts *out) {
  out->next = r->min_until < r->min_expires ? r->min_until : r->min_expires;
  out->next_until = r->min_until;
  if (r->min_until > now) return;
  out->next_until = JOURNAL_NEVER;
  for (uint32_t i = 0; i < c->unused; i++) {
    const slot *s = &c->slot[i];
    if (atomic_load(&s->state) != SLOT_LEASED || &c->row[s->row] != r)
      continue;
    if (s->until <= now) {
      out->lapsed++;
      if (!out->oldest || s->until < out->oldest) out->oldest = s->until;
    } else if (s->until < out->next_until)
      out->next_until = s->until;
  }
  out->next = !out->lapsed && out->next_until < r->min_expires
                  ? out->next_until : out->lapsed ? now : r->min_expires;
}

int journal_count(journal *j, uint64_t queue, int64_t now,
                  journal_counts *out) {
  int rc = state_look(j);
  if (rc) return rc;
  control *c = j->c;
  const row *r = row_find(c, queue);
  *out = (journal_counts){.applied = applied_point(c).pos,
                          .next = JOURNAL_NEVER};
  if (r) {
    if (r->first) out->oldest = c->slot[r->first - 1].time;
    count_lapsed(c, r, now, out);
    out->clock = r->clock;
    out->figures = r->figures;
    out->ready = r->ready;
    out->leased = r->leased;
    out->bytes = r->bytes;
    out->pushed = r->old.pushed + r->fresh.pushed;
    out->pushed_bytes = r->old.pushed_bytes + r->fresh.pushed_bytes;
    out->done = r->old.done + r->fresh.done;
    out->delivered = r->delivered - r->delivered_stored;
  }
  state_leave(j);
  return 0;
}

/* ---- items in order ------------------------------------------------------ */

static int by_id(const void *a, const void *b, void *arg) {
  const control *c = arg;
  const slot *x = &c->slot[*(const uint32_t *)a];
  const slot *y = &c->slot[*(const uint32_t *)b];
  if (x->row != y->row) return x->row < y->row ? -1 : 1;
  return x->id < y->id ? -1 : x->id > y->id;
}

/* The live items of a row, or of all; how many, sorted. */
static size_t find_live(control *c, const row *r, uint64_t from,
                        uint32_t *found) {
  size_t n = 0;
  for (uint32_t i = 0; i < c->unused; i++) {
    const slot *s = &c->slot[i];
    if (atomic_load(&s->state) == SLOT_FREE || s->id < from) continue;
    if (!r || &c->row[s->row] == r) found[n++] = i;
  }
  qsort_r(found, n, sizeof *found, by_id, c);
  return n;
}

static int copy_seen(const journal *j, const slot *s, journal_seen *seen,
                     slot_window *w, arena *to) {
  slot_tell(j->c->row[s->row].number, s, &seen->item);
  seen->pos = s->pos;
  return to ? slot_read(j, s, w, to, &seen->item) : 0;
}

/* With the state lock. */
static int look(journal *j, uint64_t queue, uint64_t from,
                journal_seen *seen, size_t max, size_t *n, arena *to) {
  control *c = j->c;
  const row *r = row_find(c, queue);
  *n = 0;
  if (!r || (!r->ready && !r->leased)) return 0;
  uint32_t *found = malloc(JOURNAL_ITEMS * sizeof *found);
  if (!found) return fail(RESPOOL_NOMEM, "not enough memory to look");
  *n = find_live(c, r, from, found);
  if (*n > max) *n = max;
  slot_window w = {.wanted = *n};
  int rc = log_reopen(j);
  for (size_t i = 0; i < *n && !rc; i++)
    rc = copy_seen(j, &c->slot[found[i]], &seen[i], &w, to);
  free(found);
  return rc;
}

int journal_look(journal *j, uint64_t queue, uint64_t from,
                 journal_seen *seen, size_t max, size_t *n, arena *to) {
  int rc = state_look(j);
  if (rc) return rc;
  rc = look(j, queue, from, seen, max, n, to);
  state_leave(j);
  return rc;
}

/* ---- without a block ----------------------------------------------------- */

static int read_items(const journal *j, journal_each_fn *each, void *arg) {
  control *c = j->c;
  uint32_t *found = malloc(JOURNAL_ITEMS * sizeof *found);
  if (!found) return fail(RESPOOL_NOMEM, "not enough memory to look");
  size_t n = find_live(c, NULL, 0, found);
  int rc = 0;
  for (size_t i = 0; i < n && !rc; i++) {
    journal_seen seen;
    arena a;
    slot_window w = {.wanted = 1};
    arena_init(&a);
    rc = copy_seen(j, &c->slot[found[i]], &seen, &w, &a);
    if (!rc) rc = each(arg, &seen.item);
    arena_free(&a);
  }
  free(found);
  return rc;
}

/* Read without the lock, whose holder may be stopped, or change it meanwhile:
   an item counts as leased where it was so before and after. Such reads race
   with the holder's writes, which ThreadSanitizer is told. */
#define UNLOCKED __attribute__((no_sanitize("thread")))

UNLOCKED static void read_lease(control *c, control *block, uint32_t i) {
  slot *s = &block->slot[i];
  if (atomic_load(&s->state) != SLOT_LEASED) return;
  const slot copy = *s;
  if (copy.row >= JOURNAL_QUEUES) return;
  const row *r = row_find(c, block->row[copy.row].number);
  slot *own = r && r->number ? slot_find(c, r, copy.id) : NULL;
  if (own && own->pos == copy.pos && atomic_load(&own->state) == SLOT_READY &&
      atomic_load(&s->state) == SLOT_LEASED)
    slot_lease_again(c, own, copy.token, copy.until);
}

UNLOCKED static void read_leases(control *c, control *block) {
  uint32_t n = block->unused < JOURNAL_ITEMS ? block->unused : JOURNAL_ITEMS;
  for (uint32_t i = 0; i < n; i++) read_lease(c, block, i);
}

/* Leased as in the block of `leases`, or in the one that lies in the
   directory. */
static void look_at_block(journal *j, const journal *leases) {
  control *copy = leases ? NULL : control_copy(j->dirfd, j->store);
  if (leases || copy) read_leases(j->c, leases ? leases->c : copy);
  free(copy);
}

static int read_file(journal *j, const head *h, const journal_applied *a,
                     const journal *leases, journal_each_fn *each, void *arg) {
  bool applied = a->seed == h->seed && a->pos >= h->start;
  point from = applied ? (point){a->pos, a->chain}
                       : (point){h->start, h->seed};
  j->c->half = h->half;
  int rc = scan_build(j->c, j->fd, from, UINT64_MAX);
  if (!rc && j->c->live) look_at_block(j, leases);
  return rc ? rc : read_items(j, each, arg);
}

int journal_read(int dirfd, const uint8_t store[16], const journal_applied *a,
                 const journal *leases, journal_each_fn *each, void *arg) {
  journal j = {.fd = -1, .dirfd = dirfd};
  head h;
  memcpy(j.store, store, sizeof j.store);
  int rc = log_open(dirfd, store, &j.fd, &h);
  if (rc) return rc == RESPOOL_NOT_FOUND ? 0 : rc;
  j.c = calloc(1, sizeof *j.c);
  rc = j.c ? read_file(&j, &h, a, leases, each, arg)
           : fail(RESPOOL_NOMEM, "not enough memory to look");
  free(j.c);
  close(j.fd);
  return rc;
}

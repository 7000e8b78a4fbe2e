/* SPDX-License-Identifier: MIT */
/*
 * The block, the file and LMDB's position, compared. The block is built once
 * more from the file, and must come out the same but for leases.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "lmdb/journal/files/scan.h"
#include "lmdb/journal/files/state.h"

typedef struct check {
  journal *j;
  control *again; /* built from the file */
  journal_finding_fn *each;
  void *arg;
  int rc; /* of `each` */
} check;

__attribute__((format(printf, 2, 3)))
static void find(check *k, const char *fmt, ...) {
  char text[FAIL_LINE];
  va_list args;
  va_start(args, fmt);
  vsnprintf(text, sizeof text, fmt, args);
  va_end(args);
  if (!k->rc) k->rc = k->each(k->arg, text);
}

typedef unsigned long long ull;

static void check_positions(check *k, const journal_applied *a) {
  control *c = k->j->c;
  ull tail = atomic_load(&c->tail), flushed = atomic_load(&c->flushed);
  ull freed = atomic_load(&c->freed), applied = applied_point(c).pos;
  ull lmdb = a->seed == c->seed ? a->pos : c->start;
  if (flushed > tail)
    find(k, "journal J1: flushed %llu lies behind the tail %llu", flushed,
         tail);
  if (freed > applied || applied > tail)
    find(k, "journal J2: freed %llu, applied %llu, tail %llu are not in "
         "order", freed, applied, tail);
  if (tail / c->half > freed / c->half + 1)
    find(k, "journal J2: the tail %llu is two halves beyond freed %llu", tail,
         freed);
  if (lmdb != applied && lmdb != atomic_load(&c->applying))
    find(k, "journal J4: the data file has applied %llu, the block says %llu",
         lmdb, applied);
}

static void check_item(check *k, const slot *s) {
  control *c = k->j->c;
  const row *r = &c->row[s->row];
  const row *other = row_find(k->again, r->number);
  const slot *o = other ? slot_find(k->again, other, s->id) : NULL;
  ull id = s->id, queue = r->number;
  if (!o || o->pos != s->pos || o->at != s->at || o->len != s->len)
    find(k, "journal J3: item %llu of queue %llu is not in the file", id,
         queue);
  if (r->known && s->id >= r->next_id)
    find(k, "journal J8: item %llu of queue %llu lies above its next id", id,
         queue);
  if (slot_find(c, r, s->id) != s)
    find(k, "journal: item %llu of queue %llu cannot be found", id, queue);
  if (atomic_load(&s->state) == SLOT_LEASED &&
      s->pos + s->span > atomic_load(&c->flushed) &&
      s->pos + s->span > atomic_load(&c->freed))
    find(k, "journal J7: item %llu of queue %llu was handed out before it "
         "was on disk", id, queue);
  journal_item i;
  slot_window w = {.wanted = 1};
  arena a;
  arena_init(&a);
  if (!slot_read(k->j, s, &w, &a, &i) && i.damaged)
    find(k, "journal: item %llu of queue %llu is damaged", id, queue);
  arena_free(&a);
}

static void check_row(check *k, const row *r) {
  control *c = k->j->c;
  ull ready = 0, leased = 0, bytes = 0, listed = 0;
  for (uint32_t i = 0; i < c->unused; i++) {
    const slot *s = &c->slot[i];
    int state = atomic_load(&s->state);
    if (state == SLOT_FREE || &c->row[s->row] != r) continue;
    ready += state == SLOT_READY;
    leased += state == SLOT_LEASED;
    bytes += s->len;
  }
  for (uint32_t n = r->first; n && listed <= ready; n = c->slot[n - 1].next)
    listed++;
  if (ready != r->ready || leased != r->leased || bytes != r->bytes ||
      listed != ready)
    find(k, "journal: queue %llu counts %llu ready and %llu leased items, "
         "which are %llu and %llu", (ull)r->number, (ull)r->ready,
         (ull)r->leased, ready, leased);
  const row *o = row_find(k->again, r->number);
  tally none = {0}, *a = o ? &(tally){
    o->old.pushed + o->fresh.pushed, 0, o->old.done + o->fresh.done} : &none;
  if (a->pushed != r->old.pushed + r->fresh.pushed ||
      a->done != r->old.done + r->fresh.done)
    find(k, "journal J5: queue %llu counts other pushes or dones than the "
         "file", (ull)r->number);
}

static void check_items(check *k) {
  control *c = k->j->c;
  if (c->live != k->again->live)
    find(k, "journal J3: the block has %llu items, the file %llu",
         (ull)c->live, (ull)k->again->live);
  for (uint32_t i = 0; i < c->unused && !k->rc; i++)
    if (atomic_load(&c->slot[i].state) != SLOT_FREE)
      check_item(k, &c->slot[i]);
  for (int i = 0; i < JOURNAL_QUEUES && !k->rc; i++)
    if (c->row[i].number) check_row(k, &c->row[i]);
}

/* With the state lock. */
static int check_all(check *k, const journal_applied *a) {
  control *c = k->j->c;
  check_positions(k, a);
  if (atomic_load(&c->made) != MADE_YES) return k->rc;
  int rc = log_reopen(k->j);
  if (rc) return rc;
  k->again->half = c->half;
  rc = scan_build(k->again, k->j->fd, applied_point(c),
                  atomic_load(&c->tail));
  if (rc == RESPOOL_CORRUPT) {
    find(k, "journal J3: %s", respool_error_text());
    return k->rc;
  }
  if (!rc && c->chain != k->again->chain)
    find(k, "journal J3: the chain ends otherwise in the file");
  if (!rc) check_items(k);
  return rc ? rc : k->rc;
}

/* Without the lock: as far as the file is whole, which nobody else may say of
   one that is being written. */
static int check_file(check *k, const journal_applied *a) {
  control *c = k->j->c;
  if (atomic_load(&c->made) != MADE_YES) return 0;
  int rc = log_reopen(k->j);
  if (rc) return rc;
  k->again->half = c->half;
  point from = a->seed == c->seed ? (point){a->pos, a->chain}
                                  : (point){c->start, c->seed};
  rc = scan_build(k->again, k->j->fd, from, UINT64_MAX);
  if (rc != RESPOOL_CORRUPT) return rc;
  find(k, "journal J3: %s", respool_error_text());
  return k->rc;
}

int journal_check(journal *j, const journal_applied *a,
                  journal_finding_fn *each, void *arg) {
  check k = {j, calloc(1, sizeof(control)), each, arg, 0};
  if (!k.again)
    return fail(RESPOOL_NOMEM, "not enough memory to check the journal");
  int rc = state_look(j);
  if (!rc) {
    rc = check_all(&k, a);
    state_leave(j);
  } else if (rc == JOURNAL_ELSEWHERE)
    rc = check_file(&k, a);
  free(k.again);
  return rc;
}

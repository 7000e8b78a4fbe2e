/* SPDX-License-Identifier: MIT */
/*
 * The items of a journal whose store is repaired: those that were pushed
 * behind the position that the store had applied, and are not done. Where that
 * position is lost, all that the journal tells of come back but for those that
 * the new store has. Their leases are over.
 */
#include "lmdb/repair/rebuild_journal.h"

#include <stdlib.h>

#include "base/array.h"
#include "base/error.h"
#include "lmdb/queue/find.h"
#include "lmdb/queue/state.h"
#include "lmdb/unit/journaled.h"

typedef struct rescue {
  salvage *s;
  bool known; /* the position */
  uint64_t applied;
  journal_item *of; /* queue 0: done */
  size_t n, cap;
  arena memory;
} rescue;

/* ---- where the store was ------------------------------------------------- */

static bool note_position(void *arg, const node *n) {
  rescue *r = arg;
  uint64_t row[3] = {1};
  if (!n) return false; /* a part that cannot be read */
  if (!phrase_is(n->key, "journal")) return true;
  r->known = row_unpack(n->key, n->value, row, 3);
  r->applied = row[0];
  return true;
}

/* A store that has applied nothing has no such record. */
static void find_position(rescue *r) {
  bool whole = r->s->trees[DB_META].known &&
               pages_walk(&r->s->pages, r->s->trees[DB_META], note_position,
                          r);
  if (whole && !r->known && !r->applied) r->known = true;
}

/* ---- the items ----------------------------------------------------------- */

static int keep(rescue *r, const journal_item *i) {
  journal_item copy = *i;
  if (!array_grow(&r->of, r->n, 1, &r->cap, sizeof *r->of) ||
      arena_copy(&r->memory, i->packed, &copy.packed))
    return RESPOOL_NOMEM;
  r->of[r->n++] = copy;
  return 0;
}

static void forget(const rescue *r, uint64_t number, uint64_t id) {
  for (size_t i = r->n; i-- > 0;)
    if (r->of[i].queue == number && r->of[i].id == id) {
      r->of[i].queue = 0;
      return;
    }
}

static int each_record(void *arg, const journal_record *n) {
  rescue *r = arg;
  if (r->known && n->pos < r->applied) return 0;
  if (!n->done) return keep(r, n->item);
  forget(r, n->queue, n->id);
  return 0;
}

static int by_queue_and_id(const void *a, const void *b) {
  const journal_item *x = a, *y = b;
  if (x->queue != y->queue) return x->queue < y->queue ? -1 : 1;
  return x->id < y->id ? -1 : x->id > y->id;
}

/* ---- putting ------------------------------------------------------------- */

/* Where the position is lost the store may have some of them. */
static bool has_item(rescue *r, const queue *q, uint64_t id) {
  line l;
  return !r->known && find_item(r->s->t, q, id, &l);
}

static size_t choose(rescue *r, const queue *q, size_t from, size_t to) {
  size_t n = 0;
  for (size_t i = from; i < to; i++)
    if (!n || r->of[from + n - 1].id != r->of[i].id)
      if (!has_item(r, q, r->of[i].id)) r->of[from + n++] = r->of[i];
  return n;
}

static void count(rescue *r, queue *q, const journal_item *of, size_t n) {
  respool_salvage *out = r->s->out;
  size_t damaged = 0;
  for (size_t i = 0; i < n; i++) damaged += of[i].damaged;
  if (n && of[n - 1].id >= q->next_id) q->next_id = of[n - 1].id + 1;
  q->counters.pushed += n;
  out->items += n - damaged;
  out->set_aside += damaged;
  out->dead_letters += damaged;
  if (n && !r->known)
    salvage_say(r->s, "found: %zu items of queue \"%.200s\" in the journal; "
                "settled items may be back", n, q->name);
}

/* Items of a queue that is lost get new ids. */
static void rename_items(rescue *r, queue *q, size_t from, size_t to) {
  for (size_t i = from; i < to; i++) {
    r->of[i].queue = q->id;
    r->of[i].id = q->next_id + (i - from);
  }
  r->s->out->nameless += to - from;
}

static void put_back(rescue *r, size_t from, size_t to) {
  salvage *s = r->s;
  queue *q = queue_by_number(s->t, r->of[from].queue);
  bool named = q;
  if (!q) q = salvage_queue(s);
  if (!q) return;
  if (!named) rename_items(r, q, from, to);
  size_t n = choose(r, q, from, to);
  int rc = journaled_put(s->t, &r->of[from], n);
  if (!rc) count(r, q, &r->of[from], n);
  if (rc) s->rc = rc;
}

static void put_all(rescue *r) {
  qsort(r->of, r->n, sizeof *r->of, by_queue_and_id);
  for (size_t from = 0, to; from < r->n && !r->s->rc; from = to) {
    uint64_t number = r->of[from].queue;
    for (to = from; to < r->n && r->of[to].queue == number; to++) continue;
    if (number) put_back(r, from, to);
  }
}

void salvage_journal(salvage *s) {
  rescue r = {.s = s};
  arena_init(&r.memory);
  find_position(&r);
  int rc = journal_salvage(s->from, each_record, &r);
  if (!rc && r.n) put_all(&r);
  if (rc == RESPOOL_CORRUPT || rc == RESPOOL_VERSION || rc == RESPOOL_IO)
    salvage_say(s, "lost: what was only in the journal, which cannot be read");
  else if (rc && rc != RESPOOL_NOT_FOUND)
    s->rc = rc;
  free(r.of);
  arena_free(&r.memory);
}

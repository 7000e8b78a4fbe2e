/* SPDX-License-Identifier: MIT */
/*
 * Strict order: no item of a priority is delivered while an earlier one is
 * leased or waits. So a take looks for the priority's earliest item, among the
 * claims of all spaces and the new items, and delivers from there up to where
 * the next source begins.
 */
#include "lmdb/queue/order.h"

#include "lmdb/queue/claims.h"
#include "lmdb/record/segments.h"

/* The first claim of a line that ends at or behind `from`. */
static bool claim_from(txn *t, const queue *q, const line *l, uint64_t from,
                       place *p, claim *c) {
  return claim_cover(t, l, from, p, c) ||
         (claim_next(t, q, (place){*l, from, 0}, p, c) &&
          same_line(&p->line, l));
}

static void add_source(sources *s, const source *new) {
  if (new->id < s->first.id) {
    s->second = s->first.id;
    s->first = *new;
  } else if (new->id < s->second)
    s->second = new->id;
}

/* The earliest item of a line's claims from `from` on. */
static bool claim_source(txn *t, const queue *q, const line *l,
                         uint64_t from, sources *s) {
  source n = {.is_new = false};
  claim c;
  if (!claim_from(t, q, l, from, &n.claim, &c)) return false;
  n.id = first_unsettled(t, l, n.claim.first > from ? n.claim.first : from);
  n.last = c.last;
  n.due = c.visible_at;
  n.leased = c.state == CLAIM_LEASED;
  if (n.id > c.last) /* nothing left of it there? */
    return c.last < UINT64_MAX && claim_source(t, q, l, c.last + 1, s);
  add_source(s, &n);
  if (c.last < s->second && claim_from(t, q, l, c.last + 1, &n.claim, &c) &&
      n.claim.first < s->second)
    s->second = n.claim.first;
  return true;
}

sources find_sources(txn *t, const queue *q, const priority_state *l,
                     uint64_t from) {
  sources s = {.first = {.id = UINT64_MAX}, .second = UINT64_MAX};
  for (int space = 0; space < SPACE_PARTED; space++) {
    line here = {q->id, space, l->priority};
    claim_source(t, q, &here, from, &s);
  }
  if (l->ready) {
    line here = {q->id, SPACE_READY, l->priority};
    source n = {.last = UINT64_MAX, .is_new = true};
    n.id = first_unsettled(t, &here, l->head > from ? l->head : from);
    n.claim.line = here;
    add_source(&s, &n);
  }
  return s;
}

int64_t order_due(txn *t, const queue *q, const priority_state *l) {
  sources s = find_sources(t, q, l, 0);
  if (s.first.id == UINT64_MAX) return INT64_MAX;
  return s.first.is_new ? 0 : s.first.due;
}

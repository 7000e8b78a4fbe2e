/* SPDX-License-Identifier: MIT */
/*
 * Strict order: nothing of a lane is handed out while an earlier item of it
 * is leased or waiting. So a take looks for the lane's earliest item, among
 * the claims of all spaces and the fresh ones, and hands out from there up to
 * where the next source begins.
 */
#include "take.h"

/* The first unsettled id at or behind `from`; UINT64_MAX: none. */
static uint64_t first_live(txn *t, const line *l, uint64_t from) {
  walk w;
  uint64_t found = UINT64_MAX;
  walk_open(&w, t, l, from);
  while (found == UINT64_MAX && walk_next(&w))
    for (uint32_t i = 0; i < w.at.count && found == UINT64_MAX; i++)
      if (w.at.first + i >= from && bits_has(&w.live, i))
        found = w.at.first + i;
  walk_close(&w);
  return found;
}

/* The first claim of a line that begins behind `from`. */
static bool claim_from(txn *t, const line *l, uint64_t from, place *p,
                       claim *c) {
  place start = {*l, from, 0};
  key k = claim_key(&start);
  cur at;
  cur_open(&at, t, DB_CLAIMS);
  bool found = cur_seek(&at, key_bytes(&k)) && claim_key_read(at.key, p) &&
               same_line(&p->line, l) && claim_unpack(at.value, c);
  cur_close(&at);
  return found;
}

/* One source of items in a lane: its earliest, and the claim it is in. */
typedef struct source {
  uint64_t id;
  place claim;
  int64_t due;
  bool fresh;
} source;

/* The two earliest sources; the second bounds what the first may give. */
typedef struct sources {
  source first;
  uint64_t second;
} sources;

static void add_source(sources *s, const source *new) {
  if (new->id < s->first.id) {
    s->second = s->first.id;
    s->first = *new;
  } else if (new->id < s->second)
    s->second = new->id;
}

static sources find_sources(grab *g, const lane_state *l) {
  sources s = {.first = {.id = UINT64_MAX}, .second = UINT64_MAX};
  claim c;
  for (int space = 0; space < SPACE_COUNT; space++) {
    line here = {g->q->id, space, l->lane};
    source n = {.fresh = false};
    if (!claim_from(g->t, &here, 0, &n.claim, &c)) continue;
    n.id = first_live(g->t, &here, n.claim.first);
    n.due = c.visible_at;
    add_source(&s, &n);
    place next;
    if (claim_from(g->t, &here, n.claim.first + 1, &next, &c) &&
        next.first < s.second && next.first > n.id)
      s.second = next.first;
  }
  if (l->ready) {
    line here = {g->q->id, SPACE_READY, l->lane};
    source n = {.id = first_live(g->t, &here, l->head), .fresh = true};
    add_source(&s, &n);
  }
  return s;
}

void grab_ordered(grab *g, int lane) {
  for (;;) {
    const lane_state *l = queue_lane(g->q, lane);
    if (!l || grab_full(g)) return;
    sources s = find_sources(g, l);
    if (s.first.id == UINT64_MAX) return;
    uint64_t upto = s.second - 1; /* at least the first itself */
    size_t before = g->lot->page.n;
    if (s.first.fresh)
      grab_fresh(g, lane, upto);
    else if (s.first.due > g->now || !grab_claim_due(g, &s.first.claim, upto))
      return;
    if (g->lot->page.n > before) return; /* else it was buried: go on */
  }
}

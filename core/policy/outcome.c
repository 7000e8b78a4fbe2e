/* SPDX-License-Identifier: MIT */
/*
 * Outcomes; see outcome.h.
 */
#include "policy/outcome.h"

/* ---- of one item -------------------------------------------------------- */

static enum outcome outcome_of_failure(const queue_config *c,
                                       uint64_t attempts) {
  if (attempts + 1 < (uint64_t)c->max_attempts) return OUTCOME_RETRY;
  if (c->on_exhausted == RESPOOL_LIMIT_DROP) return OUTCOME_DROP;
  return c->on_exhausted == RESPOOL_LIMIT_COOLDOWN ? OUTCOME_COOLDOWN
                                                   : OUTCOME_EXHAUSTED;
}

static enum outcome outcome_of(int kind, const queue_config *c,
                               uint64_t attempts) {
  switch (kind) {
    case RESPOOL_DONE: return OUTCOME_DONE;
    case RESPOOL_RETRY: return outcome_of_failure(c, attempts);
    case RESPOOL_RELEASE:
    case RESPOOL_HOLD: return OUTCOME_RELEASE;
    case RESPOOL_SNOOZE: return OUTCOME_SNOOZE;
    case RESPOOL_DEAD: return OUTCOME_DEAD;
    case RESPOOL_DROP: return OUTCOME_DROP;
    default: return STILL_LEASED;
  }
}

bool outcome_requeues(enum outcome o) {
  return o == OUTCOME_RELEASE || o == OUTCOME_RETRY || o == OUTCOME_SNOOZE ||
         o == OUTCOME_COOLDOWN || o == OUTCOME_EXCUSED;
}

bool outcome_ends(enum outcome o) {
  return o == OUTCOME_DONE || o == OUTCOME_DROP || o == OUTCOME_DEAD ||
         o == OUTCOME_EXHAUSTED;
}

bool outcome_adds_failure(enum outcome o, const mark *m) {
  return o == OUTCOME_RETRY || o == OUTCOME_COOLDOWN ||
         o == OUTCOME_EXHAUSTED || o == OUTCOME_EXCUSED ||
         (o == OUTCOME_DEAD && m->text && m->text->error.size);
}

const outcome_text outcome_lapse = {.error = {"the lease ran out", 17}};

int outcome_add_failure(arena *a, respool_bytes old, int64_t at,
                        const outcome_text *w, respool_bytes *out) {
  static const outcome_text nothing;
  if (!w) w = &nothing;
  respool_failure f = {at, w->error, w->group, w->trace};
  packer p;
  packer_init(&p);
  failures_add(&p, old, &f);
  int rc = p.rc;
  if (!rc) rc = arena_copy(a, (respool_bytes){p.data, p.len}, out);
  packer_free(&p);
  return rc;
}

int64_t outcome_wait(enum outcome o, const mark *m, const queue_config *c,
                     double chance, uint64_t *attempts, int64_t *delay) {
  if (o == OUTCOME_RETRY || o == OUTCOME_EXCUSED) {
    int64_t wait = m->delay != RESPOOL_KEEP
                       ? m->delay
                       : respool_backoff_delay(&c->backoff, *attempts + 1,
                                               *delay, chance);
    if (o == OUTCOME_RETRY) ++*attempts;
    return *delay = wait;
  }
  if (o == OUTCOME_COOLDOWN) {
    *attempts = 0;
    *delay = 0;
    return c->cooldown;
  }
  return o == OUTCOME_SNOOZE ? m->delay : 0;
}

/* ---- of a claim --------------------------------------------------------- */

static bool is_excused(enum excuse e, const mark *m, enum outcome o) {
  return m->kind == RESPOOL_RETRY && m->outage && o != ALREADY_SETTLED &&
         (e == EXCUSE_ALL || o != OUTCOME_RETRY);
}

void outcomes_find(claim_outcomes *x, const queue_config *c,
                   uint64_t attempts) {
  uint8_t by_kind[RESPOOL_HOLD + 1];
  for (int kind = RESPOOL_NONE; kind <= RESPOOL_HOLD; kind++)
    by_kind[kind] = (uint8_t)outcome_of(kind, c, attempts);
  for (size_t i = x->from; i < x->to; i++) {
    const mark *m = outcomes_mark(x, i);
    uint8_t o = outcomes_is_settled(x, i) ? ALREADY_SETTLED
                                          : by_kind[m->kind];
    enum excuse e = x->excuses ? (enum excuse)x->excuses[i] : x->excuse;
    if (e && is_excused(e, m, (enum outcome)o)) o = OUTCOME_EXCUSED;
    x->of[i - x->from] = o;
    x->n[o]++;
  }
}

uint64_t outcomes_ended(const claim_outcomes *x) {
  return x->n[OUTCOME_DONE] + x->n[OUTCOME_DROP] + x->n[OUTCOME_DEAD] +
         x->n[OUTCOME_EXHAUSTED];
}

/* Do all items of this outcome have the same text and delay? */
static bool same_mark(const claim_outcomes *x, enum outcome o) {
  const mark *one = NULL;
  for (size_t i = x->from; i < x->to; i++) {
    const mark *m = outcomes_mark(x, i);
    if (outcomes_at(x, i) != o) continue;
    if (one && (m->text != one->text || m->delay != one->delay)) return false;
    one = m;
  }
  return true;
}

/* Has an item of this outcome a memo of its own? A claim has one memo for all
   its items. */
static bool has_memo(const claim_outcomes *x, enum outcome o) {
  for (size_t i = x->from; i < x->to; i++) {
    const mark *m = outcomes_mark(x, i);
    if (outcomes_at(x, i) == o && m->text && m->text->memo.size) return true;
  }
  return false;
}

enum outcome outcomes_choose_kept(const claim_outcomes *x,
                                  bool (*worth)(void *arg, uint64_t n),
                                  void *arg) {
  static const enum outcome waiting[] = {OUTCOME_RETRY, OUTCOME_SNOOZE,
                                         OUTCOME_COOLDOWN, OUTCOME_EXCUSED};
  if (x->n[STILL_LEASED]) return STILL_LEASED;
  if (x->n[OUTCOME_RELEASE] && !has_memo(x, OUTCOME_RELEASE))
    return OUTCOME_RELEASE;
  for (size_t i = 0; i < 4; i++) {
    enum outcome o = waiting[i];
    if (x->n[o] && same_mark(x, o) && worth(arg, x->n[o])) return o;
  }
  return OUTCOME_COUNT;
}

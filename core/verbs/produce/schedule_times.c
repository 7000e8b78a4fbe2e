/* SPDX-License-Identifier: MIT */
/*
 * The times of a schedule; see schedule_times.h.
 */
#include "verbs/produce/schedule_times.h"

enum {
  LATE = 60000,     /* ms after which a tick counts as missed */
  COUNTED = 100000  /* missed ticks that are counted at most, at once */
};

int times_of(const respool_schedule *d, times *t) {
  t->zone = NULL;
  int rc = cron_parse(&t->cron, d->cron);
  return rc ? rc : zone_load("timezone", d->timezone, &t->zone);
}

int64_t next_tick(const times *t, int64_t after) {
  int64_t next = cron_next(&t->cron, t->zone, after);
  return next == INT64_MAX ? 0 : next;
}

static bool is_late(int64_t tick, int64_t now) {
  return now - tick > LATE;
}

/* All that are due, as one: the last of them, and how many were late. */
static void gather_ticks(const times *t, int64_t now, respool_tick *out) {
  int64_t tick = out->next_at;
  for (int i = 0; tick && tick <= now; i++) {
    out->late += is_late(tick, now);
    out->at = tick;
    tick = next_tick(t, tick);
    if (i >= COUNTED && is_late(tick, now)) /* no longer counted */
      tick = next_tick(t, now - LATE - 1);
  }
  out->next_at = tick;
}

int tick_plan(const stored_schedule *s, int64_t now,
                     respool_tick *out) {
  times t;
  const respool_schedule *d = &s->d;
  *out = (respool_tick)RESPOOL_TICK_INIT;
  out->revision = s->revision;
  out->next_at = d->next_at;
  if (d->paused) out->next_at = 0;
  if (!out->next_at || d->next_at > now) return 0;
  int rc = times_of(d, &t);
  if (rc) return rc;
  out->due = 1;
  if (d->missed == RESPOOL_MISSED_ALL) {
    out->at = d->next_at;
    out->late = is_late(out->at, now);
    out->next_at = next_tick(&t, out->at);
  } else
    gather_ticks(&t, now, out);
  if (d->missed == RESPOOL_MISSED_NONE && is_late(out->at, now)) out->at = 0;
  zone_free(t.zone);
  return 0;
}

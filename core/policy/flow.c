/* SPDX-License-Identifier: MIT */
/*
 * Flow; see flow.h.
 */
#include "policy/flow.h"

#include "base/clock.h"
#include "base/fault.h"
#include "record/fields.h"

#include <string.h>

static const flow nothing_yet;

static int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}

static void put_text(char *to, respool_bytes text) {
  text = phrase_cut(text, RESPOOL_REASON_MAX);
  memcpy(to, text.size ? text.data : "", text.size);
  to[text.size] = '\0';
}

bool flow_is_idle(const flow *f, int64_t now) {
  return f->held_until <= now && !f->level_at && !f->breaker && !f->n_row &&
         !f->outages && !f->opened;
}

/* ---- the rate ----------------------------------------------------------- */

int64_t rate_bucket(const queue_config *c) {
  int64_t burst = c->rate_burst ? c->rate_burst : c->rate_items;
  return burst * c->rate_per;
}

static int64_t bucket_level(const flow *f, const queue_config *c,
                            int64_t now) {
  int64_t size = rate_bucket(c), gone = now - f->level_at;
  if (!f->level_at || f->level >= size) return size;
  if (gone <= 0) return f->level;
  if (gone > (size - f->level) / c->rate_items) return size;
  return least(f->level + gone * c->rate_items, size);
}

static uint64_t rate_allows(const flow *f, const queue_config *c, int64_t now,
                            int64_t *due) {
  int64_t level = bucket_level(f, c, now);
  if (level >= c->rate_per) return (uint64_t)(level / c->rate_per);
  int64_t missing = c->rate_per - level;
  *due = time_after(now, (missing + c->rate_items - 1) / c->rate_items);
  return 0;
}

static void rate_taken(flow *f, const queue_config *c, int64_t now,
                       uint64_t n) {
  if (FAULT_WRONG("takes spend tokens")) n = 0;
  f->level = bucket_level(f, c, now) - (int64_t)n * c->rate_per;
  f->level_at = now;
}

static void rate_change(flow *f, const queue_config *from,
                        const queue_config *to, int64_t now) {
  if (from->rate_items == to->rate_items && from->rate_per == to->rate_per &&
      from->rate_burst == to->rate_burst)
    return;
  if (!f->level_at) return;
  int64_t items = from->rate_items
                      ? bucket_level(f, from, now) / from->rate_per : 0;
  f->level = to->rate_items ? least(items * to->rate_per, rate_bucket(to)) : 0;
  f->level_at = to->rate_items ? now : 0;
}

/* ---- the breaker -------------------------------------------------------- */

static void breaker_open(flow *f, const queue_config *c, int64_t now,
                         respool_bytes error) {
  size_t n = f->n_openings < RESPOOL_OPENINGS ? f->n_openings + 1
                                              : RESPOOL_OPENINGS;
  memmove(f->openings + 1, f->openings, (n - 1) * sizeof *f->openings);
  f->openings[0] = (respool_opening){.opened_at = now};
  put_text(f->openings[0].error, error);
  f->n_openings = n;
  f->opened++;
  f->breaker = RESPOOL_BREAKER_OPEN;
  f->until = time_after(now, c->breaker_cooldown);
  f->probes = 0;
}

static void breaker_close(flow *f, int64_t now) {
  if (f->breaker) f->openings[0].closed_at = now;
  f->breaker = RESPOOL_BREAKER_CLOSED;
  f->until = 0;
  f->probes = 0;
  f->n_row = f->n_old = 0;
}

/* A failure while it is closed: one more in a row, which ends when the next
   comes too late. */
static void add_to_row(flow *f, const queue_config *c, int64_t now,
                       uint64_t id, respool_bytes error) {
  if (f->n_row && now - f->failed_at > c->breaker_within)
    f->n_row = f->n_old = 0;
  f->failed_at = now;
  if (f->n_row < BREAKER_FAILURES_MAX) f->row[f->n_row++] = id;
  if (f->n_row >= (size_t)c->breaker_failures) breaker_open(f, c, now, error);
}

static void note_outage(flow *f, const queue_config *c, int64_t now,
                        uint64_t id, respool_bytes error) {
  f->outages++;
  if (f->breaker == RESPOOL_BREAKER_CLOSED) {
    add_to_row(f, c, now, id, error);
    return;
  }
  if (f->probes) f->probes--;
  if (f->breaker == RESPOOL_BREAKER_HALF_OPEN) {
    f->breaker = RESPOOL_BREAKER_OPEN;
    f->until = time_after(now, c->breaker_cooldown);
  }
}

/* Done: the destination is there. While it is open only a probe counts, as
   others began before. */
static void note_done(flow *f, int64_t now) {
  if (!f->breaker) {
    f->n_row = f->n_old = 0;
  } else if (f->breaker == RESPOOL_BREAKER_HALF_OPEN || f->probes) {
    breaker_close(f, now);
  }
}

/* Any other outcome says nothing of the destination: another may probe it. */
static void note_other(flow *f) {
  if (f->breaker && f->probes) f->probes--;
}

void flow_note(flow *f, const queue_config *c, int64_t now, const mark *m,
               uint64_t id) {
  static const respool_bytes none;
  if (m->kind == RESPOOL_DONE)
    note_done(f, now);
  else if (m->kind == RESPOOL_RETRY && m->outage)
    note_outage(f, c, now, id, m->text ? m->text->error : none);
  else
    note_other(f);
}

/* How many may be taken while it is not closed. */
static uint64_t probes_allowed(const flow *f, const queue_config *c,
                               int64_t now, int64_t *due) {
  uint64_t most = (uint64_t)c->breaker_probes;
  if (f->until <= now) return most;
  *due = f->until;
  if (f->breaker == RESPOOL_BREAKER_OPEN || f->probes >= most) return 0;
  return most - f->probes;
}

static void probes_taken(flow *f, int64_t now, uint64_t n, int64_t until) {
  if (f->until <= now) f->probes = 0; /* those before were lost */
  if (f->until < until) f->until = until;
  f->breaker = RESPOOL_BREAKER_HALF_OPEN;
  f->probes += n;
  f->openings[0].probes += n;
}

enum excuse flow_excuse(const flow *f, const queue_config *c) {
  if (!c->breaker_failures) return EXCUSE_NONE;
  if (f->breaker) return EXCUSE_ALL;
  return f->n_row > 1 ? EXCUSE_LAST : EXCUSE_NONE;
}

/* ---- its end ------------------------------------------------------------ */

static int64_t bucket_full_at(const flow *f, const queue_config *c,
                              int64_t now) {
  if (!c->rate_items) return 0;
  int64_t missing = rate_bucket(c) - bucket_level(f, c, now);
  return time_after(now, (missing + c->rate_items - 1) / c->rate_items);
}

int64_t flow_rests(const flow *f, const queue_config *c, int64_t now) {
  int64_t at = bucket_full_at(f, c, now), row = 0;
  if (f->held_until > at) at = f->held_until;
  if (f->breaker && f->until > at) at = f->until;
  if (f->n_row) row = time_after(f->failed_at, c->breaker_within);
  return row > at ? row : at;
}

/* ---- a hold ------------------------------------------------------------- */

void flow_hold(flow *f, int64_t now, int64_t ms, respool_bytes why) {
  int64_t until = time_after(now, ms);
  if (ms == 0) {
    f->held_until = 0;
    f->why[0] = '\0';
  } else if (until > f->held_until) {
    f->held_until = until;
    put_text(f->why, why);
  }
}

/* ---- all of them -------------------------------------------------------- */

uint64_t flow_allows(const flow *f, const queue_config *c, int64_t now,
                     int64_t *due) {
  uint64_t n = UINT64_MAX;
  if (!f) f = &nothing_yet;
  if (f->held_until > now) {
    *due = f->held_until;
    return 0;
  }
  if (f->breaker && c->breaker_failures) n = probes_allowed(f, c, now, due);
  if (n && c->rate_items) {
    uint64_t more = rate_allows(f, c, now, due);
    if (more < n) n = more;
  }
  return n;
}

void flow_taken(flow *f, const queue_config *c, int64_t now, uint64_t n,
                int64_t until) {
  if (c->rate_items) rate_taken(f, c, now, n);
  if (f->breaker && c->breaker_failures) probes_taken(f, now, n, until);
}

void flow_extended(flow *f, int64_t until) {
  if (f->breaker == RESPOOL_BREAKER_HALF_OPEN && f->until < until)
    f->until = until;
}

void flow_settled(flow *f, const queue_config *c, int64_t now,
                  const respool_batch *batch, const mark *marks,
                  const mark *all, const batch_claim *h) {
  static const respool_bytes none;
  for (size_t i = h->from; i < h->to; i++) {
    const mark *m = marks ? &marks[i] : all;
    if (!m->kind || batch_is_over(batch, i)) continue;
    if (m->kind == RESPOOL_HOLD && m->delay > 0 &&
        !batch->page.items[i].about->partition.size)
      flow_hold(f, now, m->delay, m->text ? m->text->error : none);
    if (c->breaker_failures)
      flow_note(f, c, now, m, batch->page.items[i].id);
  }
}

void flow_policy(flow *f, const queue_config *from, const queue_config *to,
                 int64_t now) {
  rate_change(f, from, to, now);
  if (!to->breaker_failures) breaker_close(f, now);
}

void flow_shift(flow *f, int64_t by) {
  if (f->held_until) f->held_until += by;
  if (f->level_at) f->level_at += by;
  if (f->breaker) f->until += by;
  if (f->n_row) f->failed_at += by;
}

void flow_tell(const flow *f, const queue_config *c, int64_t now,
               respool_flow *out) {
  int64_t due = 0;
  if (!f) f = &nothing_yet;
  *out = (respool_flow){.size = sizeof *out, .breaker = f->breaker,
                        .in_row = f->n_row, .outages = f->outages,
                        .opened = f->opened, .openings = f->n_openings};
  if (f->held_until > now) {
    out->held_until = f->held_until;
    strcpy(out->held_for, f->why);
  }
  if (f->breaker) out->breaker_until = f->until;
  out->allowed = c->rate_items ? (int64_t)rate_allows(f, c, now, &due)
                                : RESPOOL_UNLIMITED;
  out->allowed_at = due;
  memcpy(out->opening, f->openings, sizeof f->openings);
}

/* ---- stored ------------------------------------------------------------- */

static void text_pack(packer *p, const char *text) {
  pack_string(p, text, strlen(text));
}

static void text_unpack(unpacker *u, char *to) {
  respool_bytes b = unpack_peek(u) == CBOR_BYTES ? unpack_bytes(u)
                                                 : unpack_text(u);
  unpack_expect(u, b.size <= RESPOOL_REASON_MAX);
  if (!u->rc) put_text(to, b);
}

static void openings_pack(packer *p, const flow *f) {
  pack_array(p, f->n_openings);
  for (size_t i = 0; i < f->n_openings; i++) {
    pack_array(p, 4);
    pack_int(p, f->openings[i].opened_at);
    pack_int(p, f->openings[i].closed_at);
    pack_uint(p, f->openings[i].probes);
    text_pack(p, f->openings[i].error);
  }
}

static void openings_unpack(unpacker *u, flow *f) {
  size_t n = unpack_array(u);
  unpack_expect(u, n <= RESPOOL_OPENINGS);
  f->n_openings = u->rc ? 0 : n;
  for (size_t i = 0; i < f->n_openings; i++) {
    unpack_expect(u, unpack_array(u) == 4);
    f->openings[i].opened_at = unpack_int(u);
    f->openings[i].closed_at = unpack_int(u);
    f->openings[i].probes = unpack_uint(u);
    text_unpack(u, f->openings[i].error);
  }
}

void flow_pack(packer *p, const flow *f) {
  pack_array(p, 12);
  pack_int(p, f->held_until);
  text_pack(p, f->why);
  pack_int(p, f->level);
  pack_int(p, f->level_at);
  pack_int(p, f->breaker);
  pack_int(p, f->until);
  pack_uint(p, f->probes);
  pack_int(p, f->failed_at);
  pack_array(p, f->n_row);
  for (size_t i = 0; i < f->n_row; i++) pack_uint(p, f->row[i]);
  pack_uint(p, f->outages);
  pack_uint(p, f->opened);
  openings_pack(p, f);
}

void flow_unpack(unpacker *u, flow *f) {
  memset(f, 0, sizeof *f);
  unpack_expect(u, unpack_array(u) == 12);
  f->held_until = unpack_int(u);
  text_unpack(u, f->why);
  f->level = unpack_int(u);
  f->level_at = unpack_int(u);
  f->breaker = (int)unpack_int(u);
  f->until = unpack_int(u);
  f->probes = unpack_uint(u);
  f->failed_at = unpack_int(u);
  size_t n = unpack_array(u);
  unpack_expect(u, n <= BREAKER_FAILURES_MAX);
  f->n_row = f->n_old = u->rc ? 0 : n;
  for (size_t i = 0; i < f->n_row; i++) f->row[i] = unpack_uint(u);
  f->outages = unpack_uint(u);
  f->opened = unpack_uint(u);
  openings_unpack(u, f);
}

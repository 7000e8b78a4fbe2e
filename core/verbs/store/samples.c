/* SPDX-License-Identifier: MIT */
/*
 * Samples: the figures of all queues, minute by minute. Each is an entry in a
 * ring of its own span: the place of a moment is its number of spans since
 * 1970, modulo the length of the ring. A minute's sample has what differs from
 * that of its hour, an hour's what differs from that of its day.
 */
#include "base/hash.h"
#include "record/sample.h"
#include "verbs/store/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct ring {
  int kind; /* enum entry_kind */
  int64_t span;
  int64_t length;
  size_t most; /* bytes of a sample, about */
} ring;

static const ring RINGS[] = {
  {ENTRY_DAY, RESPOOL_DAY, 32, 64 * 1024},
  {ENTRY_HOUR, RESPOOL_HOUR, 31 * 24, 16 * 1024},
  {ENTRY_MINUTE, RESPOOL_MINUTE, 24 * 60, 16 * 1024},
};

enum { RING_COUNT = sizeof RINGS / sizeof RINGS[0] };

/* ---- one stored sample --------------------------------------------------- */

typedef struct stored {
  packer bytes; /* [name, revision, bytes] of each entry that was read */
  uint64_t revision;
  respool_bytes sample; /* data NULL: there is none of that moment */
} stored;

static void name_entry(const ring *r, int64_t number, char name[16]) {
  snprintf(name, 16, "%04d", (int)(number % r->length));
}

/* The next entry; false at the end or where it is damaged. */
static bool next_entry(unpacker *u, uint64_t *revision, respool_bytes *b) {
  if (u->rc || u->at >= u->end || unpack_array(u) != 3) return false;
  unpack_skip(u);
  *revision = unpack_uint(u);
  *b = unpack_bytes(u);
  return u->rc == 0;
}

/* Reads the entry of the span with this number; freed by packer_free. */
static int find(respool *s, const ring *r, int64_t number, stored *out) {
  char name[16];
  unpacker u;
  query q = {.kind = QUERY_ENTRIES, .name = name,
             .entries = {.kind = r->kind, .out = &out->bytes}};
  memset(out, 0, sizeof *out);
  name_entry(r, number, name);
  packer_init(&out->bytes);
  int rc = store_look(s, &q);
  unpacker_init(&u, out->bytes.data, out->bytes.len);
  if (!rc && next_entry(&u, &out->revision, &out->sample) &&
      sample_at(out->sample) / r->span != number)
    out->sample.data = NULL;
  return rc;
}

/* Reads a stored sample upon its base into `out`, which is empty. It stays so
   where there is none of that moment or it cannot be read. */
static int read_upon(respool_bytes b, const sample *base, const char *only,
                     sample *out) {
  int rc = b.data ? sample_unpack(b, base, only, out) : 0;
  return rc == RESPOOL_CORRUPT ? 0 : rc;
}

/* ---- taking -------------------------------------------------------------- */

typedef struct taking {
  respool *s;
  sample now;
} taking;

static int add_queue(void *arg, const char *name) {
  taking *t = arg;
  respool_queue_stats stats = RESPOOL_QUEUE_STATS_INIT;
  query q = {.kind = QUERY_QUEUE_STAT, .name = name, .queue_stat = &stats};
  int rc = store_look(t->s, &q);
  if (rc == RESPOOL_NOT_FOUND) return 0; /* dropped meanwhile */
  return rc ? rc : sample_add(&t->now, name, &stats);
}

static uint64_t hash_of(const sample *s) {
  uint64_t h = 1;
  for (size_t i = 0; i < s->n; i++) {
    h = XXH3_64bits_withSeed(s->list[i].n, sizeof s->list[i].n, h);
    h = XXH3_64bits_withSeed(s->list[i].name, strlen(s->list[i].name), h);
  }
  return h;
}

static int save(respool *s, const ring *r, const stored *old,
                const sample *now, const sample *base) {
  char name[16];
  packer p;
  packer_init(&p);
  sample_pack(&p, now, base, r->most);
  name_entry(r, now->at / r->span, name);
  step save = {.kind = STEP_ENTRY, .name = name,
               .entry = {r->kind, old->revision, {p.data, p.len}}};
  int rc = p.rc ? fail(p.rc, "not enough memory for a sample")
                : store_commit_step(s, &save, false);
  packer_free(&p);
  return rc;
}

/* Saves what a ring lacks of this moment, and makes its sample the base of the
   next ring. LOCKED: another process has. */
static int sample_in(respool *s, const ring *r, const sample *now,
                     sample *base) {
  stored old;
  sample next = {0};
  int rc = find(s, r, now->at / r->span, &old);
  if (!rc) rc = read_upon(old.sample, base, NULL, &next);
  if (!rc && !next.at) {
    rc = save(s, r, &old, now, base);
    if (!rc) rc = sample_copy(now, NULL, &next);
  }
  packer_free(&old.bytes);
  sample_free(base);
  *base = next;
  return rc;
}

static int take(respool *s, int64_t now) {
  taking t = {.s = s};
  sample base = {0};
  int rc = respool_queues(s, add_queue, &t);
  sample_sort(&t.now);
  t.now.at = now;
  uint64_t hash = hash_of(&t.now);
  for (int i = 0; !rc && hash != s->sampled && i < RING_COUNT; i++)
    rc = sample_in(s, &RINGS[i], &t.now, &base);
  if (!rc) s->sampled = hash;
  sample_free(&t.now);
  sample_free(&base);
  return rc == RESPOOL_LOCKED ? 0 : rc;
}

int respool_sample(respool *s, int64_t *next_in) {
  const ring *minutes = &RINGS[RING_COUNT - 1];
  stored last = {0};
  int rc = store_check(s);
  if (!rc && !next_in) rc = invalid("next_in", "given");
  if (rc) return rc;
  int64_t now = respool_now(s);
  rc = find(s, minutes, now / minutes->span, &last);
  if (!rc && !last.sample.data) rc = take(s, now);
  packer_free(&last.bytes);
  *next_in = minutes->span - now % minutes->span;
  return rc;
}

/* ---- reading ------------------------------------------------------------- */

enum { FEW = 100 }; /* samples of a ring; if more are wanted all are read */

/* A walk over the samples of one ring, and the bases that they need. */
typedef struct walk {
  respool *s;
  const respool_trend_options *o;
  sample base[RING_COUNT]; /* of each ring, the last that was read */
  int64_t number[RING_COUNT]; /* of its span; -1: none was */
  sample before;              /* the sample before */
  packer all;             /* where they were read at once: those of the ring */
  respool_bytes *place;   /* and each of them by its place; else NULL */
  respool_trend_fn each;
  void *arg;
} walk;

static void walk_free(walk *w) {
  for (int i = 0; i < RING_COUNT; i++) sample_free(&w->base[i]);
  sample_free(&w->before);
  packer_free(&w->all);
  free(w->place);
}

/* Reads a whole ring at once. */
static int read_ring(walk *w, const ring *r) {
  unpacker u;
  query q = {.kind = QUERY_ENTRIES,
             .entries = {.kind = r->kind, .out = &w->all}};
  w->place = calloc((size_t)r->length, sizeof *w->place);
  if (!w->place) return fail(RESPOOL_NOMEM, "not enough memory for samples");
  int rc = store_look(w->s, &q);
  unpacker_init(&u, w->all.data, w->all.len);
  for (uint64_t revision; !rc && !u.rc && u.at < u.end;) {
    respool_bytes b;
    if (!next_entry(&u, &revision, &b)) break;
    int64_t at = sample_at(b);
    if (at >= 0) w->place[at / r->span % r->length] = b;
  }
  return rc;
}

/* The stored sample of a span; freed by packer_free of `b`. */
static int find_read(walk *w, const ring *r, int64_t number, stored *b) {
  if (!w->place || r->span != w->o->span) return find(w->s, r, number, b);
  memset(b, 0, sizeof *b);
  b->sample = w->place[number % r->length];
  if (sample_at(b->sample) / r->span != number) b->sample.data = NULL;
  return 0;
}

/* Reads the sample of ring `i` of a moment, and those that it is based on. */
static int read_sample(walk *w, int i, int64_t at) {
  static const sample none;
  const ring *r = &RINGS[i];
  stored b;
  if (w->number[i] == at / r->span) return 0;
  int rc = i ? read_sample(w, i - 1, at) : 0;
  if (rc) return rc;
  sample_free(&w->base[i]);
  w->number[i] = at / r->span;
  rc = find_read(w, r, w->number[i], &b);
  if (!rc)
    rc = read_upon(b.sample, i ? &w->base[i - 1] : &none, w->o->queue,
                   &w->base[i]);
  packer_free(&b.bytes);
  return rc;
}

static int tell(walk *w, const sampled *q, const sample *now) {
  const sampled *before = sample_find(&w->before, q->name);
  if (!w->o->queue && before && memcmp(before->n, q->n, sizeof q->n) == 0)
    return 0;
  respool_trend t = sample_trend(before, q);
  t.queue = q->name;
  t.since = w->before.at;
  t.at = now->at;
  return w->each(w->arg, &t);
}

static int step_on(walk *w, const sample *now) {
  bool tells = w->before.at && now->at >= w->o->since;
  int rc = 0;
  for (size_t i = 0; !rc && tells && i < now->n; i++)
    rc = tell(w, &now->list[i], now);
  sample_free(&w->before);
  return rc ? rc : sample_copy(now, NULL, &w->before);
}

static int ring_of(int64_t span) {
  for (int i = 0; i < RING_COUNT; i++)
    if (RINGS[i].span == span) return i;
  return -1;
}

/* Where the walk begins: what the first sample is compared with is the one
   before it or, if there is none, its base. */
static int begin(walk *w, int i, int64_t since) {
  int rc = read_sample(w, i, since - RINGS[i].span);
  const sample *first = &w->base[i];
  if (!rc && !first->at && i) {
    rc = read_sample(w, i - 1, since);
    first = &w->base[i - 1];
  }
  if (!rc && first->at && first->at < since) rc = step_on(w, first);
  return rc;
}

int respool_trends(respool *s, const respool_trend_options *given,
                   respool_trend_fn each, void *arg) {
  respool_trend_options o = RESPOOL_TREND_OPTIONS_INIT;
  walk w = {.s = s, .o = &o, .each = each, .arg = arg};
  int rc = store_check(s);
  if (!rc && given) rc = SIZE_CHECK(given, RESPOOL_TREND_OPTIONS_INIT);
  if (!rc && given) o = *given;
  int i = ring_of(o.span);
  if (!rc && !each) rc = invalid("each", "given");
  if (!rc && i < 0) rc = invalid("span", "a minute, an hour or a day");
  if (!rc && o.queue) rc = name_check(o.queue, "queue");
  if (rc) return rc;
  const ring *r = &RINGS[i];
  int64_t now = respool_now(s), last = o.before ? o.before - 1 : now;
  int64_t at = now - (r->length - 1) * r->span;
  for (int k = 0; k < RING_COUNT; k++) w.number[k] = -1;
  if (at < o.since) at = o.since;
  if (at < 0) at = 0;
  if (last > now) last = now;
  packer_init(&w.all);
  if (last / r->span - at / r->span > FEW) rc = read_ring(&w, r);
  if (!rc) rc = begin(&w, i, at);
  for (; !rc && at / r->span <= last / r->span; at += r->span) {
    rc = read_sample(&w, i, at);
    if (!rc && o.before && w.base[i].at >= o.before) break;
    if (!rc && w.base[i].at > w.before.at) rc = step_on(&w, &w.base[i]);
  }
  walk_free(&w);
  return rc;
}

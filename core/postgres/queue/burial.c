/* SPDX-License-Identifier: MIT */
#include "postgres/queue/burial.h"

#include <stdlib.h>
#include <string.h>

#include "base/array.h"

void fates_init(fates *f, const pg_queue *q, uint64_t token) {
  memset(f, 0, sizeof *f);
  f->queue = *q;
  f->token = token;
  f->request = NO_REQUEST;
  arena_init(&f->memory);
}

void fates_free(fates *f) {
  arena_free(&f->memory);
  free(f->runs);
  free(f->parts);
  free(f->dead);
}

/* ---- gathering ---------------------------------------------------------- */

run_fate *fates_add(fates *f, uint64_t first, uint32_t n) {
  if (!array_grow(&f->runs, f->n_runs, 1, &f->cap_runs, sizeof *f->runs)) {
    f->rc = RESPOOL_NOMEM;
    return NULL;
  }
  run_fate *r = &f->runs[f->n_runs++];
  *r = (run_fate){.first = first, .n = n};
  return r;
}

void fates_part(fates *f, const parted *p) {
  if (array_grow(&f->parts, f->n_parts, 1, &f->cap_parts, sizeof *f->parts))
    f->parts[f->n_parts++] = *p;
  else
    f->rc = RESPOOL_NOMEM;
}

static const char *dlq_of(const fates *f, const char *own) {
  return own ? own : f->queue.config.dlq;
}

/* The checksum covers the DLQ's name; the server alone knows the number. */
static respool_bytes pack_dead(fates *f, const char *dlq, const dead *l) {
  packer p;
  respool_bytes copy = {NULL, 0};
  packer_init(&p);
  dead_pack(&p, phrase_of(dlq), l);
  if (p.rc || arena_copy(&f->memory, (respool_bytes){p.data, p.len}, &copy))
    f->rc = RESPOOL_NOMEM;
  packer_free(&p);
  return copy;
}

void fates_bury(fates *f, uint64_t run, const char *name, const death *d,
                const respool_item *i, respool_bytes packed) {
  dead l = dead_of(d, name, i, packed);
  if (!array_grow(&f->dead, f->n_dead, 1, &f->cap_dead, sizeof *f->dead)) {
    f->rc = RESPOOL_NOMEM;
    return;
  }
  burial *b = &f->dead[f->n_dead++];
  *b = (burial){.run = run, .dlq = d->dlq, .by = death_number(d->reason),
                .items = d->items, .group = l.r.group,
                .reason = l.r.reason,
                .record = pack_dead(f, dlq_of(f, d->dlq), &l)};
}

uint8_t *fates_bits(fates *f, uint32_t n) {
  uint8_t *bits = arena_alloc(&f->memory, (n + 7) / 8);
  if (bits)
    memset(bits, 0, (n + 7) / 8);
  else
    f->rc = RESPOOL_NOMEM;
  return bits;
}

/* ---- the request -------------------------------------------------------- */

static void put_bits(values *v, const uint8_t *bits, uint32_t n) {
  if (bits)
    add_bits(v, bits, n);
  else
    add_null(v);
}

static respool_bytes or_null(respool_bytes b) {
  return b.size ? b : (respool_bytes){NULL, 0};
}

/* An array with an element for each of the things that are gathered. */
#define EACH(v, type, list, count, put) do { \
    array_begin(v, type, count); \
    for (size_t i = 0; i < (count); i++) { \
      const __typeof__(*(list)) *x = &(list)[i]; \
      put; \
    } \
    array_end(v); \
  } while (0)

static void put_wait(values *v, int64_t wait) {
  if (wait == STAYS_LEASED)
    add_null(v);
  else
    add_int8(v, wait);
}

static void put_runs(values *v, const fates *f) {
  bool any_kept = false;
  EACH(v, TYPE_INT8, f->runs, f->n_runs, add_int8(v, (int64_t)x->first));
  EACH(v, TYPE_INT4, f->runs, f->n_runs, add_int4(v, (int64_t)x->live));
  EACH(v, TYPE_VARBIT, f->runs, f->n_runs, put_bits(v, x->bits, x->n));
  EACH(v, TYPE_INT8, f->runs, f->n_runs, put_wait(v, x->wait));
  EACH(v, TYPE_INT4, f->runs, f->n_runs, add_int4(v, (int64_t)x->attempts));
  EACH(v, TYPE_INT8, f->runs, f->n_runs, add_int8(v, x->delay));
  EACH(v, TYPE_BYTEA, f->runs, f->n_runs, add_bytes(v, or_null(x->history)));
  EACH(v, TYPE_BYTEA, f->runs, f->n_runs, add_bytes(v, or_null(x->memo)));
  if (f->recount)
    EACH(v, TYPE_INT4, f->runs, f->n_runs, add_int4(v, (int64_t)x->had));
  else
    put_null(v);
  if (f->cancels)
    EACH(v, TYPE_INT4, f->runs, f->n_runs, add_int4(v, (int64_t)x->had_live));
  else
    put_null(v);
  array_begin(v, TYPE_INT4, f->n_runs * SETTLE_COUNTS);
  for (size_t i = 0; i < f->n_runs; i++) {
    for (size_t k = 0; k < SETTLE_COUNTS; k++)
      add_int4(v, f->runs[i].counts[k]);
    any_kept |= f->runs[i].kept != NULL;
  }
  array_end(v);
  if (any_kept)
    EACH(v, TYPE_VARBIT, f->runs, f->n_runs, put_bits(v, x->kept, x->n));
  else
    put_null(v);
}

static void put_parts(values *v, const fates *f) {
  EACH(v, TYPE_INT8, f->parts, f->n_parts, add_int8(v, (int64_t)x->run));
  EACH(v, TYPE_INT8, f->parts, f->n_parts, add_int8(v, (int64_t)x->id));
  EACH(v, TYPE_INT8, f->parts, f->n_parts, add_int8(v, x->wait));
  EACH(v, TYPE_INT4, f->parts, f->n_parts, add_int4(v, (int64_t)x->attempts));
  EACH(v, TYPE_INT8, f->parts, f->n_parts, add_int8(v, x->delay));
  EACH(v, TYPE_BYTEA, f->parts, f->n_parts, add_bytes(v, or_null(x->history)));
  EACH(v, TYPE_BYTEA, f->parts, f->n_parts, add_bytes(v, or_null(x->memo)));
}

static respool_bytes not_null(respool_bytes b) {
  return b.data ? b : (respool_bytes){"", 0};
}

static void put_dead(values *v, const fates *f) {
  EACH(v, TYPE_INT8, f->dead, f->n_dead, add_int8(v, (int64_t)x->run));
  EACH(v, TYPE_TEXT, f->dead, f->n_dead,
       add_bytes(v, phrase_of(dlq_of(f, x->dlq))));
  EACH(v, TYPE_BYTEA, f->dead, f->n_dead, add_bytes(v, not_null(x->group)));
  EACH(v, TYPE_BYTEA, f->dead, f->n_dead, add_bytes(v, not_null(x->reason)));
  EACH(v, TYPE_INT4, f->dead, f->n_dead, add_int4(v, x->by));
  EACH(v, TYPE_INT4, f->dead, f->n_dead, add_int4(v, (int64_t)x->items));
  EACH(v, TYPE_BYTEA, f->dead, f->n_dead, add_bytes(v, x->record));
}

void fates_plan(plan *p, fates *f) {
  values *v = plan_add(p, STATEMENT_SETTLE, &f->request);
  if (f->rc) p->rc = f->rc;
  plan_put_queue(p, v, f->queue.id);
  plan_put_wall(p, v);
  plan_put_call(p, v);
  put_int4(v, f->queue.version);
  put_int8(v, (int64_t)f->token);
  put_bool(v, f->strict);
  put_bool(v, f->tell);
  put_int4(v, (int64_t)f->damaged);
  put_runs(v, f);
  put_parts(v, f);
  put_dead(v, f);
}

/* ---- after it ----------------------------------------------------------- */

static bool is_lost(const uint64_t *lost, size_t n, uint64_t run) {
  for (size_t i = 0; i < n; i++)
    if (lost[i] == run) return true;
  return false;
}

/* The numbers of those dead letters whose runs were still leased, in the
   order in which they were given. */
static void note_numbers(plan *p, fates *f, const PGresult *r,
                         const uint64_t *lost, size_t n) {
  size_t at = 0;
  for (size_t i = 0; i < f->n_dead; i++) {
    const burial *b = &f->dead[i];
    if (is_lost(lost, n, b->run)) continue;
    int64_t number = r ? value_element(r, 0, 1, at++) : plan_noted(p);
    if (f->notices)
      notices_add(&p->notices, f->notices, dlq_of(f, b->dlq), (uint64_t)number);
  }
}

const uint64_t *fates_end(plan *p, fates *f, size_t *n) {
  const PGresult *r = plan_answer(p, f->request);
  *n = r ? value_count(r, 0, 0) : (size_t)plan_noted(p);
  uint64_t *lost = plan_alloc(p, *n * sizeof *lost);
  if (!lost) *n = 0;
  for (size_t i = 0; i < *n; i++)
    lost[i] = (uint64_t)(r ? value_element(r, 0, 0, i) : plan_noted(p));
  note_numbers(p, f, r, lost, *n);
  return lost;
}

#define STALE_TRIES 5

/* Dead letters in flight are good whatever the policy: only their DLQ and
   version are looked up again. */
int fates_run(pg_env *e, session *l, int64_t now, const char *name, fates *f,
              size_t *lost) {
  int rc = 0;
  for (int tries = 0; tries < STALE_TRIES; tries++) {
    plan p;
    plan_init(&p, e, l);
    p.now = now;
    fates_plan(&p, f);
    rc = plan_run(&p, false);
    bool stale = rc && failure_is(&p.call.why, REFUSED_POLICY);
    if (!rc) fates_end(&p, f, lost);
    if (!rc) {
      notices_post(p.notices);
      p.notices = NULL;
    }
    plan_free(&p);
    if (!stale) return rc;
    rc = known_load(e, l, name, &f->queue);
    if (rc) return rc;
  }
  return rc;
}

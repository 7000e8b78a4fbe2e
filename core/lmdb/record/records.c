/* SPDX-License-Identifier: MIT */
/*
 * Packing and unpacking of records; see records.h. Each pair of functions
 * names the fields in the same order.
 */
#include "lmdb/record/records.h"

#include "lmdb/env/create.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static void expect(unpacker *u, bool claims) {
  if (!claims && !u->rc) u->rc = RESPOOL_CORRUPT;
}

/* A priority; bounded, as it is used as an index. */
static int priority_number(unpacker *u) {
  uint64_t n = unpack_uint(u);
  expect(u, n < RESPOOL_PRIORITIES);
  return u->rc ? 0 : (int)n;
}

/* ---- queue -------------------------------------------------------------- */

static void backoff_pack(packer *p, const respool_backoff *b) {
  pack_array(p, 8);
  pack_int(p, b->kind);
  pack_int(p, b->jitter);
  pack_double(p, b->ratio);
  pack_int(p, b->initial);
  pack_int(p, b->step);
  pack_double(p, b->factor);
  pack_int(p, b->max);
  pack_array(p, b->count);
  for (size_t i = 0; i < b->count; i++) pack_int(p, b->list[i]);
}

static void backoff_unpack(unpacker *u, respool_backoff *b) {
  memset(b, 0, sizeof *b);
  expect(u, unpack_array(u) == 8);
  b->kind = (int)unpack_int(u);
  b->jitter = (int)unpack_int(u);
  b->ratio = unpack_double(u);
  b->initial = unpack_int(u);
  b->step = unpack_int(u);
  b->factor = unpack_double(u);
  b->max = unpack_int(u);
  size_t n = unpack_array(u);
  expect(u, n <= RESPOOL_LIST_MAX);
  b->count = u->rc ? 0 : n;
  for (size_t i = 0; i < b->count; i++) b->list[i] = unpack_int(u);
}

static void weights_pack(packer *p, const respool_weights *w) {
  pack_map(p, w->n);
  for (size_t i = 0; i < w->n; i++) {
    pack_int(p, w->of[i].priority);
    pack_uint(p, w->of[i].weight);
  }
}

static void weights_unpack(unpacker *u, respool_weights *w) {
  memset(w, 0, sizeof *w);
  size_t n = unpack_map(u);
  expect(u, n <= RESPOOL_WEIGHTS_MAX);
  w->n = u->rc ? 0 : n;
  for (size_t i = 0; i < w->n; i++) {
    w->of[i].priority = priority_number(u);
    w->of[i].weight = (unsigned)unpack_uint(u);
  }
}

/* The numbers of a policy in their stored order. */
#define CONFIG_NUMBERS(X) \
  X(lease) X(max_lease) X(max_attempts) X(max_crashes) X(ttl) X(cooldown) \
  X(on_exhausted) X(on_expire) X(ordered) X(max_items) X(max_bytes) \
  X(overflow) X(keep_done) X(keep_done_bytes) X(keep_dead)

static void config_pack(packer *p, const queue_config *c) {
  pack_array(p, 18);
#define PACK(f) pack_int(p, c->f);
  CONFIG_NUMBERS(PACK)
#undef PACK
  backoff_pack(p, &c->backoff);
  pack_phrase(p, phrase_of(c->dlq));
  weights_pack(p, &c->weights);
}

bool config_equal(const queue_config *a, const queue_config *b) {
  packer p, q;
  packer_init(&p);
  packer_init(&q);
  config_pack(&p, a);
  config_pack(&q, b);
  bool equal = !p.rc && !q.rc && p.len == q.len &&
               !memcmp(p.data, q.data, p.len);
  packer_free(&p);
  packer_free(&q);
  return equal;
}

static void name_unpack(unpacker *u, char *name) {
  respool_bytes b = unpack_phrase(u);
  expect(u, b.size <= RESPOOL_NAME_MAX);
  if (u->rc) b.size = 0;
  if (b.size) memcpy(name, b.data, b.size);
  name[b.size] = '\0';
}

static void config_unpack(unpacker *u, queue_config *c) {
  expect(u, unpack_array(u) == 18);
#define UNPACK(f) c->f = unpack_int(u);
  CONFIG_NUMBERS(UNPACK)
#undef UNPACK
  backoff_unpack(u, &c->backoff);
  name_unpack(u, c->dlq);
  weights_unpack(u, &c->weights);
}

/* The counters of a queue in their stored order. */
#define COUNTERS(X) \
  X(pushed) X(done) X(died) X(expired) X(removed) X(delivered) X(retried) \
  X(released) X(snoozed) X(crashed) X(lease_lost) X(damaged) \
  X(clock_steps) X(dropped) X(kept) X(kept_bytes) \
  X(pushed_bytes) X(delivered_bytes)

static void numbers_pack(packer *p, const uint64_t *v, size_t n) {
  pack_array(p, n);
  for (size_t i = 0; i < n; i++) pack_uint(p, v[i]);
}

static void numbers_unpack(unpacker *u, uint64_t *v, size_t n) {
  expect(u, unpack_array(u) == n);
  for (size_t i = 0; i < n; i++) v[i] = unpack_uint(u);
}

static void histogram_pack(packer *p, const respool_histogram *h) {
  pack_array(p, 3);
  pack_uint(p, h->count);
  pack_uint(p, h->sum);
  numbers_pack(p, h->buckets, RESPOOL_BUCKETS);
}

static void histogram_unpack(unpacker *u, respool_histogram *h) {
  expect(u, unpack_array(u) == 3);
  h->count = unpack_uint(u);
  h->sum = unpack_uint(u);
  numbers_unpack(u, h->buckets, RESPOOL_BUCKETS);
}

static void counters_pack(packer *p, const respool_queue_stats *s) {
  pack_array(p, 22);
#define PACK(f) pack_uint(p, s->f);
  COUNTERS(PACK)
#undef PACK
  numbers_pack(p, s->flushes, RESPOOL_FLUSH_REASONS);
  numbers_pack(p, s->died_by, RESPOOL_DEATHS);
  histogram_pack(p, &s->wait);
  histogram_pack(p, &s->handle);
}

static void counters_unpack(unpacker *u, respool_queue_stats *s) {
  expect(u, unpack_array(u) == 22);
#define UNPACK(f) s->f = unpack_uint(u);
  COUNTERS(UNPACK)
#undef UNPACK
  numbers_unpack(u, s->flushes, RESPOOL_FLUSH_REASONS);
  numbers_unpack(u, s->died_by, RESPOOL_DEATHS);
  histogram_unpack(u, &s->wait);
  histogram_unpack(u, &s->handle);
}

static void priority_pack(packer *p, const priority_state *l) {
  pack_array(p, 7);
  pack_int(p, l->priority);
  pack_uint(p, l->head);
  pack_uint(p, l->ready);
  pack_uint(p, l->leased);
  pack_uint(p, l->scheduled + l->retrying);
  pack_int(p, l->credit);
  pack_uint(p, l->retrying);
}

uint64_t priority_items(const priority_state *l) {
  return l->ready + l->leased + l->scheduled + l->retrying;
}

static void priority_unpack(unpacker *u, priority_state *l) {
  size_t n = unpack_array(u);
  expect(u, n == 6 || n == 7);
  l->priority = priority_number(u);
  l->head = unpack_uint(u);
  l->ready = unpack_uint(u);
  l->leased = unpack_uint(u);
  l->scheduled = unpack_uint(u);
  l->credit = unpack_int(u);
  l->untold = n == 6 && l->scheduled;
  if (n == 7) l->retrying = unpack_uint(u);
  expect(u, l->retrying <= l->scheduled);
  l->scheduled -= l->retrying;
}

static void priorities_unpack(unpacker *u, queue *q) {
  size_t n = unpack_array(u);
  expect(u, n <= RESPOOL_PRIORITIES);
  if (u->rc || !n) return;
  q->priorities = calloc(n, sizeof *q->priorities);
  if (!q->priorities) {
    u->rc = RESPOOL_NOMEM;
    return;
  }
  for (size_t i = 0; i < n; i++) priority_unpack(u, &q->priorities[i]);
  q->n_priorities = n;
}

void queue_pack(packer *p, const queue *q) {
  pack_array(p, 10);
  pack_uint(p, q->id);
  pack_bool(p, q->paused);
  config_pack(p, &q->config);
  pack_uint(p, q->next_id);
  pack_uint(p, q->next_token);
  pack_int(p, q->clock_last);
  pack_int(p, q->clock_offset);
  pack_uint(p, q->bytes);
  counters_pack(p, &q->counters);
  pack_array(p, q->n_priorities);
  for (size_t i = 0; i < q->n_priorities; i++) priority_pack(p,
                                                             &q->priorities[i]);
}

int queue_unpack(respool_bytes b, queue *q) {
  unpacker u;
  unpacker_init(&u, b.data, b.size);
  expect(&u, unpack_array(&u) == 10);
  q->id = (uint32_t)unpack_uint(&u);
  q->paused = unpack_bool(&u);
  config_unpack(&u, &q->config);
  q->next_id = unpack_uint(&u);
  q->next_token = unpack_uint(&u);
  q->clock_last = unpack_int(&u);
  q->clock_offset = unpack_int(&u);
  q->bytes = unpack_uint(&u);
  counters_unpack(&u, &q->counters);
  priorities_unpack(&u, q);
  return u.rc;
}

/* ---- claim and DLQ ------------------------------------------------------ */

static void memo_pack(packer *p, respool_bytes memo) {
  if (memo.size)
    pack_bytes(p, memo.data, memo.size);
  else
    pack_null(p);
}

static respool_bytes memo_unpack(unpacker *u) {
  if (unpack_null(u)) return (respool_bytes){NULL, 0};
  return unpack_bytes(u);
}

bool claim_has_failed(const claim *c) {
  return c->attempts > 0 || c->crashes > 0 || c->failures.size > 0;
}

void claim_pack(packer *p, const claim *c) {
  pack_array(p, 11);
  pack_uint(p, c->last);
  pack_int(p, c->state);
  pack_uint(p, c->token);
  pack_int(p, c->visible_at);
  pack_uint(p, c->left);
  pack_uint(p, c->attempts);
  pack_uint(p, c->deliveries);
  pack_uint(p, c->crashes);
  pack_int(p, c->delay);
  if (c->failures.size)
    pack_raw(p, c->failures.data, c->failures.size);
  else
    pack_null(p);
  memo_pack(p, c->memo);
}

static respool_bytes failures_unpack(unpacker *u) {
  if (unpack_null(u)) return (respool_bytes){NULL, 0};
  return unpack_skip(u);
}

bool claim_unpack(respool_bytes b, claim *c) {
  unpacker u;
  unpacker_init(&u, b.data, b.size);
  expect(&u, unpack_array(&u) == 11);
  c->last = unpack_uint(&u);
  c->state = (int)unpack_uint(&u);
  c->token = unpack_uint(&u);
  c->visible_at = unpack_int(&u);
  c->left = unpack_uint(&u);
  c->attempts = unpack_uint(&u);
  c->deliveries = unpack_uint(&u);
  c->crashes = unpack_uint(&u);
  c->delay = unpack_int(&u);
  c->failures = failures_unpack(&u);
  c->memo = memo_unpack(&u);
  return u.rc == 0;
}

void dlq_pack(packer *p, const dlq *x) {
  pack_array(p, 3);
  pack_uint(p, x->id);
  pack_uint(p, x->next_number);
  pack_uint(p, x->count);
}

bool dlq_unpack(respool_bytes b, dlq *x) {
  unpacker u;
  unpacker_init(&u, b.data, b.size);
  expect(&u, unpack_array(&u) == 3);
  x->id = (uint32_t)unpack_uint(&u);
  x->next_number = unpack_uint(&u);
  x->count = unpack_uint(&u);
  return u.rc == 0;
}

/* ---- checksums ---------------------------------------------------------- */

#define SUM_AT 1   /* behind the array head */
#define SUM_END 10

/* Writes the checksum of what follows it into its place. */
static void sum_put(packer *p, size_t start) {
  if (p->rc) return;
  uint8_t *b = p->data + start;
  uint64_t sum = XXH3_64bits(b + SUM_END, p->len - start - SUM_END);
  for (int i = 0; i < 8; i++)
    b[SUM_AT + 1 + i] = (uint8_t)(sum >> (56 - 8 * i));
}

/* Opens a summed array of `n` elements. */
static void sum_open(unpacker *u, respool_bytes b, size_t n) {
  unpacker_init(u, b.data, b.size);
  expect(u, unpack_array(u) == n);
  uint64_t sum = unpack_uint(u);
  const uint8_t *start = b.data;
  expect(u, b.size > SUM_END && u->at == start + SUM_END);
  if (!u->rc) expect(u, sum == XXH3_64bits(u->at, b.size - SUM_END));
}

/* ---- dead letter
   ------------------------------------------------------------- */

void dead_pack(packer *p, const dead *l) {
  const respool_dead_letter *r = &l->r;
  size_t start = p->len;
  pack_array(p, 19);
  pack_fixed(p, 0);
  pack_uint(p, FORMAT_VERSION);
  pack_phrase(p, r->reason);
  pack_phrase(p, r->group);
  pack_phrase(p, r->queue);
  pack_uint(p, r->id);
  pack_int(p, r->priority);
  pack_uint(p, r->items);
  pack_int(p, r->pushed_at);
  pack_int(p, r->died_at);
  pack_int(p, r->first_failed_at);
  pack_uint(p, r->attempts);
  pack_uint(p, r->deliveries);
  pack_uint(p, r->crashes);
  pack_uint(p, r->version);
  pack_phrase(p, r->error);
  if (l->failures.size)
    pack_raw(p, l->failures.data, l->failures.size);
  else
    pack_null(p);
  pack_raw(p, l->item.data, l->item.size);
  memo_pack(p, l->memo);
  sum_put(p, start);
}

bool dead_unpack(respool_bytes b, dead *l) {
  respool_dead_letter *r = &l->r;
  unpacker u;
  memset(l, 0, sizeof *l);
  sum_open(&u, b, 19);
  expect(&u, unpack_uint(&u) <= FORMAT_VERSION);
  r->reason = unpack_phrase(&u);
  r->group = unpack_phrase(&u);
  r->queue = unpack_phrase(&u);
  r->id = unpack_uint(&u);
  r->priority = priority_number(&u);
  r->items = unpack_uint(&u);
  r->pushed_at = unpack_int(&u);
  r->died_at = unpack_int(&u);
  r->first_failed_at = unpack_int(&u);
  r->attempts = unpack_uint(&u);
  r->deliveries = unpack_uint(&u);
  r->crashes = unpack_uint(&u);
  r->version = unpack_uint(&u);
  r->error = unpack_phrase(&u);
  l->failures = failures_unpack(&u);
  l->item = unpack_skip(&u);
  l->memo = memo_unpack(&u);
  return u.rc == 0;
}

/* ---- history ------------------------------------------------------------ */

void history_pack(packer *p, const respool_item *i, respool_bytes packed) {
  size_t start = p->len;
  pack_array(p, 7);
  pack_fixed(p, 0);
  pack_int(p, i->pushed_at);
  pack_uint(p, i->attempts);
  pack_uint(p, i->deliveries);
  pack_int(p, i->priority);
  pack_uint(p, i->version);
  pack_raw(p, packed.data, packed.size);
  sum_put(p, start);
}

bool history_unpack(respool_bytes b, respool_item *i, unpacker *u) {
  memset(i, 0, sizeof *i);
  sum_open(u, b, 7);
  i->pushed_at = unpack_int(u);
  i->attempts = unpack_uint(u);
  i->deliveries = unpack_uint(u);
  i->priority = priority_number(u);
  i->version = unpack_uint(u);
  return u->rc == 0;
}

/* ---- job ---------------------------------------------------------------- */

void replay_pack(packer *p, const respool_replay *j) {
  pack_array(p, 11);
  pack_phrase(p, phrase_of(j->dlq));
  pack_phrase(p, phrase_of(j->to));
  pack_int(p, j->state);
  pack_uint(p, j->cursor);
  pack_uint(p, j->upto);
  pack_uint(p, j->seen);
  pack_uint(p, j->moved);
  pack_uint(p, j->skipped);
  pack_uint(p, j->failed);
  pack_int(p, j->started_at);
  pack_int(p, j->updated_at);
}

bool replay_unpack(respool_bytes b, respool_replay *j) {
  unpacker u;
  unpacker_init(&u, b.data, b.size);
  expect(&u, unpack_array(&u) == 11);
  name_unpack(&u, j->dlq);
  name_unpack(&u, j->to);
  j->state = (int)unpack_uint(&u);
  j->cursor = unpack_uint(&u);
  j->upto = unpack_uint(&u);
  j->seen = unpack_uint(&u);
  j->moved = unpack_uint(&u);
  j->skipped = unpack_uint(&u);
  j->failed = unpack_uint(&u);
  j->started_at = unpack_int(&u);
  j->updated_at = unpack_int(&u);
  return u.rc == 0;
}

/* ---- parts and bits ----------------------------------------------------- */

void part_pack(packer *p, respool_bytes data) {
  size_t start = p->len;
  pack_array(p, 2);
  pack_fixed(p, 0);
  pack_bytes(p, data.data, data.size);
  sum_put(p, start);
}

bool part_unpack(respool_bytes b, respool_bytes *data) {
  unpacker u;
  sum_open(&u, b, 2);
  *data = unpack_bytes(&u);
  return u.rc == 0;
}

void bits_fill(bits *s, uint32_t count) {
  memset(s->b, 0, sizeof s->b);
  memset(s->b, 0xff, count / 8);
  if (count % 8) s->b[count / 8] = (uint8_t)((1u << count % 8) - 1);
  s->count = s->set = count;
}

bool bits_has(const bits *s, uint32_t i) {
  return i < s->count && (s->b[i / 8] >> i % 8 & 1);
}

bool bits_clear(bits *s, uint32_t i) {
  if (!bits_has(s, i)) return false;
  s->b[i / 8] &= (uint8_t)~(1u << i % 8);
  s->set--;
  return true;
}

void bits_pack(packer *p, const bits *s) {
  pack_bytes(p, s->b, (s->count + 7) / 8);
}

bool bits_unpack(respool_bytes b, uint32_t count, bits *s) {
  unpacker u;
  unpacker_init(&u, b.data, b.size);
  respool_bytes raw = unpack_bytes(&u);
  if (u.rc || raw.size != (count + 7) / 8 || count > SEGMENT_ITEMS)
    return false;
  bits_fill(s, 0);
  memcpy(s->b, raw.data, raw.size);
  s->count = count;
  for (size_t i = 0; i < raw.size; i++)
    s->set += (uint32_t)__builtin_popcount(s->b[i]);
  return true;
}

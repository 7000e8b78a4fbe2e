/* SPDX-License-Identifier: MIT */
/*
 * Packing and unpacking of records; see records.h. Each pair of functions
 * names the fields in the same order.
 */
#include "lmdb/record/records.h"

#include "base/array.h"
#include "record/fields.h"

#include <stdlib.h>
#include <string.h>

/* ---- checksums ---------------------------------------------------------- */

uint64_t record_seed(enum db db, respool_bytes k) {
  tree_key room;
  return key_seed(tree_key_of(db, k, &room));
}

void record_put(txn *t, enum db db, respool_bytes k, packer *p) {
  sum_put(p, 0, record_seed(db, k));
  txn_put_packed(t, db, k, p);
}

static void open_record(unpacker *u, enum db db, respool_bytes k,
                        respool_bytes b, size_t n) {
  record_open(u, b, n, record_seed(db, k));
}

/* ---- queue -------------------------------------------------------------- */

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
  unpack_expect(u, unpack_array(u) == n);
  for (size_t i = 0; i < n; i++) v[i] = unpack_uint(u);
}

static void histogram_pack(packer *p, const respool_histogram *h) {
  pack_array(p, 3);
  pack_uint(p, h->count);
  pack_uint(p, h->sum);
  numbers_pack(p, h->buckets, RESPOOL_BUCKETS);
}

/* The buckets of format 1, each of which goes where its upper bound lies. */
static void old_buckets_unpack(unpacker *u, uint64_t *buckets) {
  static const uint64_t bounds[] = { /* microseconds */
    1000, 5000, 25000, 100000, 500000, 2500000, 10000000, 60000000, 300000000,
    1800000000, 7200000000, UINT64_MAX,
  };
  memset(buckets, 0, RESPOOL_BUCKETS * sizeof *buckets);
  for (size_t old = 0, i = 0; old < sizeof bounds / sizeof *bounds; old++) {
    while (bounds[old] > respool_bucket_bound((int)i)) i++;
    buckets[i] += unpack_uint(u);
  }
}

static void histogram_unpack(unpacker *u, respool_histogram *h) {
  unpacker before;
  unpack_expect(u, unpack_array(u) == 3);
  h->count = unpack_uint(u);
  h->sum = unpack_uint(u);
  before = *u;
  if (unpack_array(&before) != 12) {
    numbers_unpack(u, h->buckets, RESPOOL_BUCKETS);
    return;
  }
  *u = before;
  old_buckets_unpack(u, h->buckets);
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
  unpack_expect(u, unpack_array(u) == 22);
#define UNPACK(f) s->f = unpack_uint(u);
  COUNTERS(UNPACK)
#undef UNPACK
  numbers_unpack(u, s->flushes, RESPOOL_FLUSH_REASONS);
  numbers_unpack(u, s->died_by, RESPOOL_DEATHS);
  histogram_unpack(u, &s->wait);
  histogram_unpack(u, &s->handle);
}

void priority_pack(packer *p, const priority_state *l) {
  pack_array(p, 8);
  pack_int(p, l->priority);
  pack_uint(p, l->head);
  pack_uint(p, l->ready);
  pack_uint(p, l->leased);
  pack_uint(p, l->scheduled);
  pack_uint(p, l->retrying);
  pack_int(p, l->credit);
  pack_uint(p, l->listed);
}

uint64_t priority_items(const priority_state *l) {
  return l->ready + l->leased + l->scheduled + l->retrying;
}

/* Records of older builds have no `listed`. */
static void priority_unpack(unpacker *u, priority_state *l) {
  size_t n = unpack_array(u);
  unpack_expect(u, n == 7 || n == 8);
  l->priority = unpack_priority(u);
  l->head = unpack_uint(u);
  l->ready = unpack_uint(u);
  l->leased = unpack_uint(u);
  l->scheduled = unpack_uint(u);
  l->retrying = unpack_uint(u);
  l->credit = unpack_int(u);
  l->listed = n == 8 ? unpack_uint(u) : 0;
}

static void priorities_unpack(unpacker *u, queue *q) {
  size_t n = unpack_array(u);
  unpack_expect(u, n <= RESPOOL_PRIORITIES);
  if (u->rc || !n) return;
  q->priorities = calloc(n, sizeof *q->priorities);
  if (!q->priorities) {
    u->rc = RESPOOL_NOMEM;
    return;
  }
  for (size_t i = 0; i < n; i++) priority_unpack(u, &q->priorities[i]);
  q->n_priorities = n;
}

static void runs_pack(packer *p, const queue *q) {
  pack_array(p, q->n_runs);
  for (size_t i = 0; i < q->n_runs; i++) {
    pack_array(p, 4);
    pack_uint(p, q->runs[i].number);
    pack_uint(p, q->runs[i].first);
    pack_uint(p, q->runs[i].last);
    pack_uint(p, q->runs[i].n);
  }
}

void queue_pack(packer *p, const queue *q) {
  record_begin(p, 15);
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
  if (q->flow)
    flow_pack(p, q->flow);
  else
    pack_null(p);
  pack_uint(p, q->n_partitions);
  pack_uint(p, q->next_partition);
  pack_uint(p, q->n_lones);
  runs_pack(p, q);
}

static void runs_unpack(unpacker *u, queue *q) {
  size_t n = unpack_array(u);
  if (u->rc || !n) return;
  if (!array_grow(&q->runs, 0, n, &q->cap_runs, sizeof *q->runs)) {
    u->rc = RESPOOL_NOMEM;
    return;
  }
  for (; q->n_runs < n && !u->rc; q->n_runs++) {
    lone_run *r = &q->runs[q->n_runs];
    unpack_expect(u, unpack_array(u) == 4);
    r->number = unpack_uint(u);
    r->first = unpack_uint(u);
    r->last = unpack_uint(u);
    r->n = unpack_uint(u);
  }
}

static void queue_flow_unpack(unpacker *u, queue *q) {
  if (unpack_null(u) || u->rc) return;
  q->flow = malloc(sizeof *q->flow);
  if (q->flow)
    flow_unpack(u, q->flow);
  else
    u->rc = RESPOOL_NOMEM;
}

void queue_clear(queue *q) {
  free(q->priorities);
  free(q->flow);
  free(q->runs);
  q->priorities = NULL;
  q->flow = NULL;
  q->runs = NULL;
}

/* Records of older builds have no partitions. */
int queue_unpack(respool_bytes k, respool_bytes b, queue *q) {
  unpacker u;
  const uint8_t *head = b.data;
  bool older = b.size > 0 && head[0] == 0x80 + 12;
  open_record(&u, DB_QUEUES, k, b, older ? 11 : 15);
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
  queue_flow_unpack(&u, q);
  q->n_partitions = older ? 0 : unpack_uint(&u);
  q->next_partition = older ? 0 : unpack_uint(&u);
  q->n_lones = older ? 0 : unpack_uint(&u);
  if (!older) runs_unpack(&u, q);
  return u.rc;
}

/* ---- claim and DLQ ------------------------------------------------------ */

bool claim_has_failed(const claim *c) {
  return c->attempts > 0 || c->crashes > 0 || c->failures.size > 0;
}

void claim_pack(packer *p, const claim *c) {
  record_begin(p, 11);
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
  pack_memo(p, c->memo);
}

bool claim_fields_unpack(unpacker *u, claim *c) {
  c->last = unpack_uint(u);
  c->state = (int)unpack_uint(u);
  c->token = unpack_uint(u);
  c->visible_at = unpack_int(u);
  c->left = unpack_uint(u);
  c->attempts = unpack_uint(u);
  c->deliveries = unpack_uint(u);
  c->crashes = unpack_uint(u);
  c->delay = unpack_int(u);
  c->failures = unpack_failures(u);
  c->memo = unpack_memo(u);
  return u->rc == 0;
}

bool claim_unpack(respool_bytes k, respool_bytes b, claim *c) {
  unpacker u;
  open_record(&u, DB_CLAIMS, k, b, 11);
  return claim_fields_unpack(&u, c);
}

void dlq_pack(packer *p, const dlq *x) {
  record_begin(p, 5);
  pack_uint(p, x->id);
  pack_uint(p, x->next_number);
  pack_uint(p, x->count);
  pack_uint(p, x->bytes);
  pack_uint(p, x->dropped);
}

/* Records of older builds have no bytes. */
bool dlq_unpack(respool_bytes k, respool_bytes b, dlq *x) {
  unpacker u;
  const uint8_t *head = b.data;
  bool older = b.size > 0 && head[0] == 0x80 + 4;
  open_record(&u, DB_DLQS, k, b, older ? 3 : 5);
  x->id = (uint32_t)unpack_uint(&u);
  x->next_number = unpack_uint(&u);
  x->count = unpack_uint(&u);
  x->bytes = older ? DLQ_UNMEASURED : unpack_uint(&u);
  x->dropped = older ? 0 : unpack_uint(&u);
  return u.rc == 0;
}

/* ---- history, key, row -------------------------------------------------- */

#define HISTORY 6 /* fields; one more of a cancelled item */

void history_pack(packer *p, const respool_item_about *i,
                  respool_bytes packed) {
  record_begin(p, i->state == RESPOOL_CANCELLED ? HISTORY + 1 : HISTORY);
  pack_int(p, i->pushed_at);
  pack_uint(p, i->attempts);
  pack_uint(p, i->deliveries);
  pack_int(p, i->priority);
  pack_uint(p, i->version);
  pack_raw(p, packed.data, packed.size);
  if (i->state == RESPOOL_CANCELLED) pack_bool(p, true);
}

bool history_unpack(respool_bytes k, respool_bytes b, respool_item_about *i,
                    unpacker *u) {
  memset(i, 0, sizeof *i);
  i->state = RESPOOL_FINISHED;
  open_record(u, DB_HISTORY, k, b, HISTORY);
  if (u->rc) {
    i->state = RESPOOL_CANCELLED;
    open_record(u, DB_HISTORY, k, b, HISTORY + 1);
  }
  i->pushed_at = unpack_int(u);
  i->attempts = unpack_uint(u);
  i->deliveries = unpack_uint(u);
  i->priority = unpack_priority(u);
  i->version = unpack_uint(u);
  return u->rc == 0;
}

bool named_replay_unpack(respool_bytes k, respool_bytes b, respool_replay *j) {
  return replay_unpack(record_seed(DB_REPLAYS, k), b, j);
}

void owner_pack(packer *p, key_owner h) {
  record_begin(p, 2);
  pack_uint(p, h.id);
  pack_int(p, h.until);
}

bool owner_unpack(respool_bytes k, respool_bytes b, key_owner *h) {
  unpacker u;
  open_record(&u, DB_KEYS, k, b, 2);
  h->id = unpack_uint(&u);
  h->until = unpack_int(&u);
  return u.rc == 0;
}

void row_pack(packer *p, const uint64_t *row, size_t n) {
  record_begin(p, n);
  for (size_t i = 0; i < n; i++) pack_uint(p, row[i]);
}

bool row_unpack(respool_bytes k, respool_bytes b, uint64_t *row, size_t n) {
  unpacker u;
  open_record(&u, DB_META, k, b, n);
  for (size_t i = 0; i < n; i++) row[i] = unpack_uint(&u);
  return u.rc == 0;
}

/* ---- notes, entries, parts, bits ---------------------------------------- */

static bool bytes_unpack(enum db db, respool_bytes k, respool_bytes b,
                         respool_bytes *data) {
  unpacker u;
  open_record(&u, db, k, b, 1);
  *data = unpack_bytes(&u);
  return u.rc == 0;
}

void note_pack(packer *p, respool_bytes note) {
  part_pack(p, note);
}

bool note_unpack(respool_bytes k, respool_bytes b, respool_bytes *note) {
  return bytes_unpack(DB_NOTES, k, b, note);
}

void entry_pack(packer *p, const entry *e) {
  record_begin(p, 2);
  pack_uint(p, e->revision);
  pack_bytes(p, e->bytes.data, e->bytes.size);
}

bool entry_unpack(respool_bytes k, respool_bytes b, entry *e) {
  unpacker u;
  open_record(&u, DB_ENTRIES, k, b, 2);
  e->revision = unpack_uint(&u);
  e->bytes = unpack_bytes(&u);
  return u.rc == 0;
}

void part_pack(packer *p, respool_bytes data) {
  record_begin(p, 1);
  pack_bytes(p, data.data, data.size);
}

bool part_unpack(respool_bytes k, respool_bytes b, respool_bytes *data) {
  return bytes_unpack(DB_BLOBS, k, b, data);
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
  part_pack(p, (respool_bytes){s->b, (s->count + 7) / 8});
}

bool bits_unpack(respool_bytes k, respool_bytes b, uint32_t count, bits *s) {
  respool_bytes raw;
  if (!bytes_unpack(DB_REMAINING, k, b, &raw) ||
      raw.size != (count + 7) / 8 || count > SEGMENT_ITEMS)
    return false;
  bits_fill(s, 0);
  memcpy(s->b, raw.data, raw.size);
  s->count = count;
  for (size_t i = 0; i < raw.size; i++)
    s->set += (uint32_t)__builtin_popcount(s->b[i]);
  return true;
}

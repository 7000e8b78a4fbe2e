/* SPDX-License-Identifier: MIT */
/*
 * Writing and reading keys, field by field. The reader's sticky state is `ok`:
 * a key that is too short or too long is of another form.
 */
#include "lmdb/record/key_codec.h"

#include "record/segment.h"

#include <string.h>

/* ---- fields ------------------------------------------------------------- */

static uint8_t *put(uint8_t *at, uint64_t v, int bytes) {
  while (bytes-- > 0) *at++ = (uint8_t)(v >> (8 * bytes));
  return at;
}

static void add(key *k, uint64_t v, int bytes) {
  put(k->b + k->n, v, bytes);
  k->n = (uint8_t)(k->n + bytes);
}

typedef struct reader {
  const uint8_t *at;
  size_t left;
  bool ok;
} reader;

static uint64_t field(reader *r, size_t bytes) {
  uint64_t v = 0;
  if (r->left < bytes) r->ok = false;
  if (!r->ok) return 0;
  for (size_t i = 0; i < bytes; i++) v = v << 8 | r->at[i];
  r->at += bytes;
  r->left -= bytes;
  return v;
}

static reader reader_of(respool_bytes b) {
  return (reader){b.data, b.size, true};
}

static bool at_end(const reader *r) {
  return r->ok && r->left == 0;
}

respool_bytes key_bytes(const key *k) {
  return (respool_bytes){k->b, k->n};
}

respool_bytes name_key_bytes(const name_key *k) {
  return (respool_bytes){k->b, k->n};
}

/* ---- parts of several keys ---------------------------------------------- */

static void add_line(key *k, const line *l) {
  add(k, l->queue, 4);
  add(k, (uint64_t)l->space, 1);
  add(k, (uint64_t)l->priority, 1);
}

static line read_line(reader *r) {
  line l;
  l.queue = (uint32_t)field(r, 4);
  l.space = (int)field(r, 1);
  l.priority = (int)field(r, 1);
  return l;
}

static void add_segment(key *k, const place *p) {
  add_line(k, &p->line);
  add(k, p->first, 8);
  add(k, p->count, 2);
}

static void read_segment(reader *r, place *p) {
  p->line = read_line(r);
  p->first = field(r, 8);
  p->count = (uint32_t)field(r, 2);
}

/* ---- writing ------------------------------------------------------------ */

key segment_key(const place *p) {
  key k;
  k.n = 0;
  add_segment(&k, p);
  return k;
}

key claim_key(const place *p) {
  key k;
  k.n = 0;
  add_line(&k, &p->line);
  add(&k, p->first, 8);
  return k;
}

key due_key_of(const place *p, int64_t visible_at) {
  key k;
  k.n = 0;
  add(&k, p->line.queue, 4);
  add(&k, (uint64_t)p->line.priority, 1);
  add(&k, (uint64_t)visible_at, 8);
  add(&k, (uint64_t)p->line.space, 1);
  add(&k, p->first, 8);
  return k;
}

key expiry_key(const place *p, int64_t expires_at) {
  key k;
  k.n = 0;
  add(&k, p->line.queue, 4);
  add(&k, (uint64_t)expires_at, 8);
  add_segment(&k, p);
  return k;
}

key blob_key(uint64_t number, uint32_t part) {
  key k;
  k.n = 0;
  add(&k, number, 8);
  add(&k, part, 4);
  return k;
}

key dead_key(uint32_t dlq, uint64_t last, uint64_t count) {
  key k;
  k.n = 0;
  add(&k, dlq, 4);
  add(&k, last, 8);
  add(&k, count, 2);
  return k;
}

key history_key(uint32_t queue, int64_t done_at, uint64_t id) {
  key k;
  k.n = 0;
  add(&k, queue, 4);
  add(&k, (uint64_t)done_at, 8);
  add(&k, id, 8);
  return k;
}

static void end_with(name_key *k, uint8_t *at, respool_bytes name) {
  if (name.size) memcpy(at, name.data, name.size);
  k->n = (size_t)(at - k->b) + name.size;
}

name_key unique_key(uint32_t queue, respool_bytes name) {
  name_key k;
  end_with(&k, put(k.b, queue, 4), name);
  return k;
}

name_key window_key(uint32_t queue, int64_t until, respool_bytes name) {
  name_key k;
  end_with(&k, put(put(k.b, queue, 4), (uint64_t)until, 8), name);
  return k;
}

key ids_key_of(const ids_key *i) {
  key k;
  k.n = 0;
  add(&k, i->queue, 4);
  add(&k, i->partition, 8);
  add(&k, (uint64_t)i->priority, 1);
  add(&k, (uint64_t)i->kind, 1);
  add(&k, i->first, 8);
  return k;
}

key turn_key(uint32_t queue, int priority, uint64_t number) {
  key k;
  k.n = 0;
  add(&k, queue, 4);
  add(&k, (uint64_t)priority, 1);
  add(&k, number, 8);
  return k;
}

/* ---- reading ------------------------------------------------------------ */

bool segment_key_read(respool_bytes b, place *p) {
  reader r = reader_of(b);
  read_segment(&r, p);
  return at_end(&r) && p->first > 0 && p->count > 0 &&
         p->count <= SEGMENT_ITEMS && p->first <= UINT64_MAX - p->count;
}

bool claim_key_read(respool_bytes b, place *p) {
  reader r = reader_of(b);
  p->line = read_line(&r);
  p->first = field(&r, 8);
  p->count = 0;
  return at_end(&r);
}

bool due_key_read(respool_bytes b, due_key *d) {
  reader r = reader_of(b);
  d->claim.line.queue = (uint32_t)field(&r, 4);
  d->claim.line.priority = (int)field(&r, 1);
  d->at = (int64_t)field(&r, 8);
  d->claim.line.space = (int)field(&r, 1);
  d->claim.first = field(&r, 8);
  d->claim.count = 0;
  return at_end(&r);
}

bool expiry_key_read(respool_bytes b, place *p, int64_t *expires_at) {
  reader r = reader_of(b);
  uint32_t queue = (uint32_t)field(&r, 4);
  *expires_at = (int64_t)field(&r, 8);
  read_segment(&r, p);
  return at_end(&r) && p->line.queue == queue;
}

bool blob_key_read(respool_bytes b, uint64_t *number, uint32_t *part) {
  reader r = reader_of(b);
  *number = field(&r, 8);
  *part = (uint32_t)field(&r, 4);
  return at_end(&r);
}

bool history_key_read(respool_bytes b, uint32_t *queue, int64_t *done_at,
                      uint64_t *id) {
  reader r = reader_of(b);
  *queue = (uint32_t)field(&r, 4);
  *done_at = (int64_t)field(&r, 8);
  *id = field(&r, 8);
  return at_end(&r);
}

bool window_key_read(respool_bytes b, uint32_t *queue, int64_t *until,
                     respool_bytes *name) {
  reader r = reader_of(b);
  *queue = (uint32_t)field(&r, 4);
  *until = (int64_t)field(&r, 8);
  *name = (respool_bytes){r.at, r.left};
  return r.ok && r.left <= RESPOOL_NAME_MAX;
}

bool ids_key_read(respool_bytes b, ids_key *k) {
  reader r = reader_of(b);
  k->queue = (uint32_t)field(&r, 4);
  k->partition = field(&r, 8);
  k->priority = (int)field(&r, 1);
  k->kind = (int)field(&r, 1);
  k->first = field(&r, 8);
  return at_end(&r);
}

bool turn_key_read(respool_bytes b, uint32_t *queue, int *priority,
                   uint64_t *number) {
  reader r = reader_of(b);
  *queue = (uint32_t)field(&r, 4);
  *priority = (int)field(&r, 1);
  *number = field(&r, 8);
  return at_end(&r);
}

bool dead_key_read(respool_bytes b, uint32_t *dlq, uint64_t *last,
                   uint64_t *count) {
  reader r = reader_of(b);
  *dlq = (uint32_t)field(&r, 4);
  *last = field(&r, 8);
  *count = field(&r, 2);
  return at_end(&r);
}

bool same_line(const line *a, const line *b) {
  return a->queue == b->queue && a->space == b->space && a->priority
      == b->priority;
}

uint64_t place_last(const place *p) {
  return p->first + p->count - 1;
}

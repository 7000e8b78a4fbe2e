/* SPDX-License-Identifier: MIT */
/* Recognising records by their form; see record_kind.h. */
#include "lmdb/repair/record_kind.h"

#include <stdlib.h>
#include <string.h>

/* Above all numbers of queues and DLQs. */
#define FAMILY_END ((uint32_t)1 << 31)

static bool is_family(uint32_t number) {
  return number > 0 && number < FAMILY_END;
}

static bool is_id(uint64_t id) {
  return id > 0 && id < NUMBER_END;
}

bool is_name(respool_bytes b) {
  return b.size > 0 && b.size <= RESPOOL_NAME_MAX && !memchr(b.data, 0, b.size);
}

bool record_queue(const node *n, queue *q) {
  memset(q, 0, sizeof *q);
  int rc = is_name(n->key) ? queue_unpack(n->value, q) : RESPOOL_CORRUPT;
  free(q->priorities);
  q->priorities = NULL;
  return rc == 0 && is_family(q->id);
}

bool record_dlq(const node *n, dlq *x) {
  return is_name(n->key) && dlq_unpack(n->value, x) && is_family(x->id);
}

bool record_place(const node *n, place *p) {
  return segment_key_read(n->key, p) && is_family(p->line.queue) &&
         p->line.space < SPACE_COUNT && p->count > 0 &&
         p->count <= SEGMENT_ITEMS && is_id(p->first);
}

static bool is_segment(const node *n) {
  place p;
  segment g;
  return record_place(n, &p) && segment_open(n->value, &g) &&
         g.count == p.count;
}

/* Some item is unsettled, and no bit is set beyond the end. */
static bool is_remaining(const node *n) {
  place p;
  bits b;
  uint32_t set = 0;
  if (!record_place(n, &p) || !bits_unpack(n->value, p.count, &b)) return false;
  for (uint32_t i = 0; i < p.count; i++) set += bits_has(&b, i);
  return set > 0 && set == b.set;
}

static bool is_claim(const node *n) {
  place p;
  claim c;
  return claim_key_read(n->key, &p) && is_family(p.line.queue) &&
         p.line.space < SPACE_COUNT && is_id(p.first) &&
         claim_unpack(n->value, &c) && c.last >= p.first && is_id(c.last) &&
         (c.state == CLAIM_LEASED || c.state == CLAIM_WAITING);
}

static bool is_key_owner(const node *n) {
  unpacker u;
  if (n->key.size < 5 || n->key.size > RESPOOL_NAME_MAX + 4) return false;
  unpacker_init(&u, n->value.data, n->value.size);
  if (unpack_array(&u) != 2) return false;
  unpack_uint(&u);
  unpack_int(&u);
  return u.rc == 0 && u.at == u.end;
}

static bool is_history(const node *n) {
  uint32_t of;
  int64_t at;
  uint64_t id;
  respool_item i;
  unpacker u;
  return history_key_read(n->key, &of, &at, &id) && is_id(id) && at >= 0 &&
         at < (int64_t)NUMBER_END && history_unpack(n->value, &i, &u);
}

static bool is_dead(const node *n) {
  uint32_t of;
  uint64_t number;
  dead l;
  return dead_key_read(n->key, &of, &number) && is_family(of) &&
         is_id(number) && dead_unpack(n->value, &l);
}

static bool is_part(const node *n) {
  uint64_t number;
  uint32_t part;
  respool_bytes data;
  return blob_key_read(n->key, &number, &part) && is_id(number) &&
         part_unpack(n->value, &data);
}

bool record_is(enum db db, const node *n) {
  queue q;
  dlq x = {.count = 0};
  respool_replay j;
  if (!n->value.data || n->tree) return false;
  switch (db) {
    case DB_QUEUES: return record_queue(n, &q);
    case DB_DLQS: return record_dlq(n, &x);
    case DB_REPLAYS: return is_name(n->key) && replay_unpack(n->value, &j);
    case DB_SEGMENTS: return is_segment(n);
    case DB_REMAINING: return is_remaining(n);
    case DB_CLAIMS: return is_claim(n);
    case DB_KEYS: return is_key_owner(n);
    case DB_HISTORY: return is_history(n);
    case DB_DEAD_LETTERS: return is_dead(n);
    case DB_BLOBS: return is_part(n);
    default: return false;
  }
}

/* A value up to the end that its own form gives; data NULL: none. */
static respool_bytes whole_value(const node *n) {
  unpacker u;
  if (!n->room.data) return n->room;
  unpacker_init(&u, n->room.data, n->room.size);
  respool_bytes v = unpack_skip(&u);
  return u.rc ? (respool_bytes){NULL, 0} : v;
}

bool record_read(enum db db, const node *n, node *out) {
  *out = *n;
  if (record_is(db, n)) return true;
  out->value = whole_value(n);
  if (record_is(db, out)) return true;
  *out = *n;
  return false;
}

bool record_is_later(enum db db, respool_bytes v, respool_bytes old) {
  claim a, b;
  dlq x = {.count = 0}, y = {.count = 0};
  queue q = {.id = 0}, r = {.id = 0};
  if (db == DB_CLAIMS && claim_unpack(v, &a) && claim_unpack(old, &b))
    return a.deliveries > b.deliveries;
  if (db == DB_DLQS && dlq_unpack(v, &x) && dlq_unpack(old, &y))
    return x.next_number > y.next_number;
  if (db != DB_QUEUES) return false;
  int rc = queue_unpack(v, &q), old_rc = queue_unpack(old, &r);
  free(q.priorities);
  free(r.priorities);
  return !rc && !old_rc && q.next_id + q.next_token > r.next_id + r.next_token;
}

bool record_segment(const node *n, respool_bytes *v, segment *g) {
  *v = whole_value(n);
  return v->data && segment_open(*v, g) && g->count > 0 &&
         g->count <= SEGMENT_ITEMS;
}

bool record_dead(const node *n, respool_bytes *v, dead *l) {
  *v = whole_value(n);
  return v->data && dead_unpack(*v, l);
}

bool record_is_astray(enum db db, const node *n) {
  respool_bytes v;
  segment g;
  dead l;
  return (db == DB_SEGMENTS && record_segment(n, &v, &g)) ||
         (db == DB_DEAD_LETTERS && record_dead(n, &v, &l));
}

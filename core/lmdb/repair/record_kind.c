/* SPDX-License-Identifier: MIT */
/* Recognising records by their checksums; see record_kind.h. */
#include "lmdb/repair/record_kind.h"

#include <stdlib.h>
#include <string.h>

/* Above all numbers of queues and DLQs. */
#define FAMILY_END ((uint32_t)1 << 31)

enum db record_table(node *n) {
  const uint8_t *b = n->key.data;
  if (n->key.size == 0 || b[0] < DB_QUEUES || b[0] >= DB_COUNT) return DB_COUNT;
  n->key = (respool_bytes){b + 1, n->key.size - 1};
  return (enum db)b[0];
}

bool record_queue(const node *n, queue *q) {
  memset(q, 0, sizeof *q);
  if (n->key.size == 0 || n->key.size > RESPOOL_NAME_MAX) return false;
  int rc = queue_unpack(n->key, n->value, q);
  queue_clear(q);
  return rc == 0;
}

bool record_place(const node *n, place *p) {
  return segment_key_read(n->key, p) && p->line.queue > 0 &&
         p->line.queue < FAMILY_END && p->line.space < SPACE_COUNT &&
         p->first < NUMBER_END;
}

static bool is_segment(const node *n) {
  place p;
  segment g;
  return record_place(n, &p) && segment_open(n->key, n->value, &g) &&
         g.count == p.count;
}

static bool is_remaining(const node *n) {
  place p;
  bits b;
  return record_place(n, &p) && bits_unpack(n->key, n->value, p.count, &b) &&
         b.set > 0;
}

static bool is_claim(const node *n) {
  place p;
  claim c;
  return claim_key_read(n->key, &p) && p.line.space < SPACE_COUNT &&
         claim_unpack(n->key, n->value, &c) && c.last >= p.first &&
         c.last < NUMBER_END;
}

static bool is_run(const node *n) {
  uint32_t of;
  uint64_t last, count;
  return dead_key_read(n->key, &of, &last, &count) && last < NUMBER_END &&
         dead_run_is_sound(n->key, n->value, last, count);
}

static bool is_history(const node *n) {
  respool_item_about i;
  unpacker u;
  return history_unpack(n->key, n->value, &i, &u);
}

static bool is_sound(enum db db, const node *n) {
  queue q;
  dlq x;
  respool_replay j;
  key_owner h;
  entry e;
  respool_bytes data;
  if (!n->value.data || n->tree) return false;
  switch (db) {
    case DB_QUEUES: return record_queue(n, &q);
    case DB_DLQS: return dlq_unpack(n->key, n->value, &x);
    case DB_REPLAYS: return named_replay_unpack(n->key, n->value, &j);
    case DB_ENTRIES: return entry_unpack(n->key, n->value, &e);
    case DB_NOTES: return note_unpack(n->key, n->value, &data);
    case DB_SEGMENTS: return is_segment(n);
    case DB_REMAINING: return is_remaining(n);
    case DB_CLAIMS: return is_claim(n);
    case DB_KEYS: return owner_unpack(n->key, n->value, &h);
    case DB_HISTORY: return is_history(n);
    case DB_DEAD_LETTERS: return is_run(n);
    case DB_BLOBS: return part_unpack(n->key, n->value, &data);
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
  if (is_sound(db, n)) return true;
  out->value = whole_value(n);
  if (is_sound(db, out)) return true;
  *out = *n;
  return false;
}

bool record_is_later(enum db db, respool_bytes k, respool_bytes v,
                     respool_bytes old) {
  node m = {.key = k, .value = v}, n = {.key = k, .value = old};
  claim a, b;
  dlq x, y;
  queue q, r;
  bits s, o;
  entry e, f;
  place p;
  switch (db) {
    case DB_CLAIMS:
      return claim_unpack(k, v, &a) && claim_unpack(k, old, &b) &&
             a.deliveries > b.deliveries;
    case DB_DLQS:
      return dlq_unpack(k, v, &x) && dlq_unpack(k, old, &y) &&
             x.next_number > y.next_number;
    case DB_REMAINING: /* bits are only ever cleared */
      return segment_key_read(k, &p) && bits_unpack(k, v, p.count, &s) &&
             bits_unpack(k, old, p.count, &o) && s.set < o.set;
    case DB_QUEUES:
      return record_queue(&m, &q) && record_queue(&n, &r) &&
             q.next_id + q.next_token > r.next_id + r.next_token;
    case DB_ENTRIES:
      return entry_unpack(k, v, &e) && entry_unpack(k, old, &f) &&
             e.revision > f.revision;
    default: return false;
  }
}

bool record_home(const node *n, enum db *db, node *out) {
  *out = *n;
  out->value = whole_value(n);
  if (!out->value.data) return false;
  *db = DB_SEGMENTS;
  out->key = segment_own_key(out->value);
  if (out->key.data && is_sound(*db, out)) return true;
  *db = DB_DEAD_LETTERS;
  out->key = dead_run_own_key(out->value);
  return out->key.data && is_sound(*db, out);
}

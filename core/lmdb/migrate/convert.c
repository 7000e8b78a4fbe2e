/* SPDX-License-Identifier: MIT */
/*
 * Converting records; see convert.h. A record that cannot be read, or whose
 * checksum does not hold, is stored so that the same can be said of it.
 */
#include "lmdb/migrate/convert.h"

#include "base/hash.h"
#include "lmdb/record/records.h"
#include "record/fields.h"
#include "record/segment.h"

#include <string.h>

/* The layout of records with a checksum in format 1: an array's head, the
   checksum (fixed), then what it covers. Segments and dead letters have their
   format's number there, segments two times (fixed) behind it. */
#define OLD_BODY 10
#define OLD_REST 11
#define OLD_PUSHED 12
#define OLD_EXPIRES 21
#define OLD_VERSION 29
#define OLD_DEAD_KEY 12 /* bytes */

static uint64_t read64(const uint8_t *at) {
  uint64_t v = 0;
  for (int i = 0; i < 8; i++) v = v << 8 | at[i];
  return v;
}

bool old_is_summed(respool_bytes v) {
  const uint8_t *b = v.data;
  return v.size > OLD_BODY && b[1] == 0x1b &&
         read64(b + 2) == XXH3_64bits(b + OLD_BODY, v.size - OLD_BODY);
}

/* Begins the array of `n` fields behind a checksum, to be filled in. */
static packer *begin(migration *m, size_t n) {
  packer_reset(&m->p);
  record_begin(&m->p, n);
  return &m->p;
}

static void put(migration *m, enum db db, respool_bytes k) {
  record_put(&m->t, db, k, &m->p);
  m->pending += k.size + m->p.len;
}

static void put_as_is(migration *m, enum db db, respool_bytes k,
                      respool_bytes v) {
  txn_put(&m->t, db, k, v);
  m->pending += k.size + v.size;
}

static respool_bytes behind(respool_bytes v, size_t n) {
  return (respool_bytes){(const uint8_t *)v.data + n, v.size - n};
}

void convert_entry(migration *m, enum db db, respool_bytes k,
                   respool_bytes v) {
  (void)v;
  txn_put_null(&m->t, db, k);
  m->pending += k.size;
}

void convert_array(migration *m, enum db db, respool_bytes k,
                   respool_bytes v) {
  const uint8_t *b = v.data;
  unsigned n = v.size ? b[0] - 0x80u : 0x80;
  if (n > 20) {
    put_as_is(m, db, k, v);
    return;
  }
  pack_raw(begin(m, n), b + 1, v.size - 1);
  put(m, db, k);
}

void convert_claim(migration *m, enum db db, respool_bytes k,
                   respool_bytes v) {
  claim c;
  unpacker u;
  unpacker_init(&u, v.data, v.size);
  if (unpack_array(&u) != 11 || !claim_fields_unpack(&u, &c) ||
      u.at != u.end) {
    convert_array(m, db, k, v);
    return;
  }
  c.token = token_make(c.token, 0);
  packer_reset(&m->p);
  claim_pack(&m->p, &c);
  put(m, db, k);
}

/* [dlq, to, ..., updated_at], later builds also with [..., revision, runner];
   all are of dead letters. */
void convert_replay(migration *m, enum db db, respool_bytes k,
                    respool_bytes v) {
  const uint8_t *b = v.data;
  bool old = v.size && b[0] == 0x80 + 11;
  if (!old && (!v.size || b[0] != 0x80 + 13)) {
    convert_array(m, db, k, v);
    return;
  }
  packer *p = begin(m, 14);
  pack_raw(p, b + 1, v.size - 1);
  if (old) {
    pack_uint(p, 0);
    pack_null(p);
  }
  pack_uint(p, 0);
  put(m, db, k);
}

void convert_bitmap(migration *m, enum db db, respool_bytes k,
                    respool_bytes v) {
  pack_raw(begin(m, 1), v.data, v.size);
  put(m, db, k);
}

void convert_summed(migration *m, enum db db, respool_bytes k,
                    respool_bytes v) {
  if (!old_is_summed(v)) {
    put_as_is(m, db, k, v);
    return;
  }
  packer_reset(&m->p);
  pack_raw(&m->p, v.data, v.size);
  put(m, db, k);
}

void convert_blob(migration *m, enum db db, respool_bytes k, respool_bytes v) {
  uint64_t number;
  uint32_t part;
  if (!blob_key_read(k, &number, &part) || !id_set_has(&m->blobs, number))
    convert_summed(m, db, k, v);
}

/* The key of a run of one; false where the old one is none of a dead letter. */
static bool key_of_one(respool_bytes old, key *k, uint64_t *number) {
  uint32_t of;
  uint64_t count;
  *k = dead_key(0, 0, 1);
  if (old.size != OLD_DEAD_KEY) return false;
  memcpy(k->b, old.data, old.size);
  return dead_key_read(key_bytes(k), &of, number, &count);
}

/* Packs a dead letter as a run of one; false where it cannot be read. */
static bool pack_one(migration *m, respool_bytes k, uint64_t number,
                     respool_bytes fields) {
  dead_run run = {.n = 0};
  dead l;
  unpacker u;
  unpacker_init(&u, fields.data, fields.size);
  dead_fields_unpack(&u, &l);
  if (u.rc) return false;
  l.r.number = number;
  txn_fail(&m->t, dead_run_add(&run, &l));
  packer_reset(&m->p);
  dead_run_pack(&m->p, k, &run);
  dead_run_free(&run);
  return true;
}

/* [checksum, format, fields ...] under DLQ and number */
void convert_dead(migration *m, enum db db, respool_bytes k, respool_bytes v) {
  key own;
  uint64_t number;
  if (!key_of_one(k, &own, &number))
    put_as_is(m, db, k, v);
  else if (old_is_summed(v) &&
           pack_one(m, key_bytes(&own), number, behind(v, OLD_REST)))
    put(m, db, key_bytes(&own));
  else
    put_as_is(m, db, key_bytes(&own), v);
}

/* A damaged segment has its new form too, with a checksum that is wrong. */
void convert_segment(migration *m, enum db db, respool_bytes k,
                     respool_bytes v) {
  static const uint8_t own_key[SEGMENT_KEY];
  const uint8_t *b = v.data;
  if (v.size < OLD_VERSION || k.size != SEGMENT_KEY) {
    put_as_is(m, db, k, v);
    return;
  }
  packer *p = begin(m, 6);
  pack_uint(p, SEGMENT_FORMAT);
  pack_bytes(p, own_key, sizeof own_key);
  pack_raw(p, b + OLD_REST, v.size - OLD_REST);
  if (!p->rc) {
    segment_seal(p->data, p->len, k, (int64_t)read64(b + OLD_PUSHED),
                 (int64_t)read64(b + OLD_EXPIRES));
    p->data[OLD_BODY - 1] ^= !old_is_summed(v);
  }
  txn_put_packed(&m->t, db, k, p);
  m->pending += k.size + p->len;
}

/* ---- meta and queues ---------------------------------------------------- */

void convert_meta(migration *m, enum db db, respool_bytes k, respool_bytes v) {
  static const struct { const char *was, *is; } numbers[] = {
    {"next queue", "last queue"}, {"next box", "last DLQ"},
    {"next DLQ", "last DLQ"}, {"next blob", "last blob"},
    {"next probe", "last probe"},
  };
  unpacker u;
  unpacker_init(&u, v.data, v.size);
  if (phrase_is(k, "store")) put_as_is(m, db, k, v);
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    if (!phrase_is(k, numbers[i].was)) continue;
    uint64_t next = unpack_uint(&u), last = next ? next - 1 : 0;
    packer_reset(&m->p);
    row_pack(&m->p, &last, 1);
    if (u.rc)
      put_as_is(m, db, phrase_of(numbers[i].is), v);
    else
      put(m, db, phrase_of(numbers[i].is));
  }
}

/* Counts the items of a priority that wait for a retry. */
static uint64_t count_retrying(migration *m, uint32_t number, int priority) {
  place from = {{number, 0, 0}, 0, 0}, p;
  key start = claim_key(&from);
  uint64_t n = 0;
  old_cur c;
  old_cur_open(&c, &m->from, "claims");
  bool more = old_seek(&c, key_bytes(&start));
  for (; more && claim_key_read(c.key, &p) && p.line.queue == number;
       more = old_next(&c)) {
    claim cl;
    unpacker u;
    unpacker_init(&u, c.value.data, c.value.size);
    if (p.line.priority == priority && unpack_array(&u) == 11 &&
        claim_fields_unpack(&u, &cl) && cl.state == CLAIM_WAITING &&
        claim_has_failed(&cl))
      n += cl.left;
  }
  old_cur_close(&c);
  return n;
}

/* [priority, head, ready, leased, waiting, credit], later builds also with
   [..., retrying]. */
static void convert_priority(migration *m, unpacker *u, uint32_t number) {
  priority_state l = {.priority = 0};
  size_t n = unpack_array(u);
  if (n != 6 && n != 7) u->rc = RESPOOL_CORRUPT;
  l.priority = (int)unpack_uint(u);
  l.head = unpack_uint(u);
  l.ready = unpack_uint(u);
  l.leased = unpack_uint(u);
  l.scheduled = unpack_uint(u);
  l.credit = unpack_int(u);
  l.retrying = n == 7 ? unpack_uint(u)
               : u->rc || !l.scheduled ? 0
               : count_retrying(m, number, l.priority);
  if (l.retrying > l.scheduled) l.retrying = l.scheduled;
  l.scheduled -= l.retrying;
  priority_pack(&m->p, &l);
}

static void note_queue(migration *m, respool_bytes name, uint32_t number) {
  if (phrase_is(name, ".notes")) m->notes[OLD_NOTES] = number;
  if (phrase_is(name, ".imports")) m->notes[OLD_IMPORTS] = number;
}

static bool is_note_queue(respool_bytes name) {
  return phrase_is(name, ".notes") || phrase_is(name, ".imports");
}

/* A policy without a flow gets none. */
static void convert_policy(packer *p, unpacker *u) {
  queue_config none;
  config_default(&none, "");
  if (unpack_array(u) != 18) u->rc = RESPOOL_CORRUPT;
  pack_array(p, 25);
  for (int i = 0; i < 18; i++) {
    respool_bytes field = unpack_skip(u);
    if (!u->rc) pack_raw(p, field.data, field.size);
  }
  config_pack_flow(p, &none);
}

void convert_queue(migration *m, enum db db, respool_bytes k,
                   respool_bytes v) {
  unpacker u, fields;
  packer *p = begin(m, 11);
  unpacker_init(&u, v.data, v.size);
  if (unpack_array(&u) != 10) u.rc = RESPOOL_CORRUPT;
  fields = u;
  uint32_t number = (uint32_t)unpack_uint(&fields);
  for (int i = 0; i < 9; i++) {
    if (i == 2) {
      convert_policy(p, &u);
      continue;
    }
    respool_bytes field = unpack_skip(&u);
    if (!u.rc) pack_raw(p, field.data, field.size);
  }
  size_t n = unpack_array(&u);
  if (n > RESPOOL_PRIORITIES) u.rc = RESPOOL_CORRUPT;
  pack_array(p, n);
  for (size_t i = 0; i < n && !u.rc; i++) convert_priority(m, &u, number);
  pack_null(p);
  if (u.rc)
    put_as_is(m, db, k, v);
  else if (is_note_queue(k))
    note_queue(m, k, number);
  else
    put(m, db, k);
}

/* ---- notes -------------------------------------------------------------- */

bool old_blob(migration *m, blob_ref r, packer *into) {
  respool_bytes v;
  for (uint32_t part = 0; into->len < r.size && !into->rc; part++) {
    key k = blob_key(r.number, part);
    unpacker u;
    if (!old_get(&m->from, "blobs", key_bytes(&k), &v) || !old_is_summed(v))
      return false;
    unpacker_init(&u, v.data, v.size);
    unpack_array(&u);
    unpack_uint(&u);
    respool_bytes bytes = unpack_bytes(&u);
    if (u.rc || !bytes.size) return false;
    pack_raw(into, bytes.data, bytes.size);
  }
  return !into->rc;
}

/* The note of an import is under "import " and the old key. A name holds no
   NUL. */
void convert_note(migration *m, int which, const item *i) {
  static const char *const heads[] = {"", "import "};
  char name[RESPOOL_NAME_MAX + 8];
  size_t head = strlen(heads[which]);
  const char *end = name + head + i->key.size;
  if (i->key.size == 0 || head + i->key.size > RESPOOL_NAME_MAX) return;
  memcpy(name, heads[which], head);
  memcpy(name + head, i->key.data, i->key.size);
  for (char *at = name; (at = memchr(at, '\0', (size_t)(end - at)));)
    *at = '\n';
  packer_reset(&m->p);
  note_pack(&m->p, i->body);
  put(m, DB_NOTES, (respool_bytes){name, head + i->key.size});
}

/* SPDX-License-Identifier: MIT */
/*
 * The records of entries, by kind and name.
 */
#include "lmdb/record/entries.h"

#include "base/fault.h"
#include "lmdb/env/txn/cur.h"
#include "lmdb/record/records.h"

#include <string.h>

static name_key entry_key(int kind, const char *name) {
  name_key k;
  k.n = 1 + strlen(name);
  k.b[0] = (uint8_t)kind;
  memcpy(k.b + 1, name, k.n - 1);
  return k;
}

static int damaged(int kind, respool_bytes name) {
  return fail(RESPOOL_CORRUPT, "entry '%.*s' of kind %d is damaged",
              (int)(name.size < 160 ? name.size : 160),
              (const char *)name.data, kind);
}

static bool has_kind(const cur *c, int kind) {
  return c->key.size > 1 && *(const uint8_t *)c->key.data == kind;
}

static int add_entry(const cur *c, int kind, packer *out) {
  const char *k = c->key.data;
  respool_bytes name = {k + 1, c->key.size - 1};
  entry e;
  if (!entry_unpack(c->key, c->value, &e)) return damaged(kind, name);
  pack_array(out, 3);
  pack_phrase(out, name);
  pack_uint(out, e.revision);
  pack_bytes(out, e.bytes.data, e.bytes.size);
  return 0;
}

int lmdb_entries(txn *t, int kind, const char *name, packer *out) {
  name_key k = entry_key(kind, name ? name : "");
  respool_bytes own = name_key_bytes(&k);
  int rc = 0;
  cur c;
  cur_open(&c, t, DB_ENTRIES);
  for (bool more = cur_seek(&c, own); more && !rc && has_kind(&c, kind);
       more = !name && cur_next(&c))
    if (!name || phrase_same(c.key, own)) rc = add_entry(&c, kind, out);
  cur_close(&c);
  txn_fail(t, out->rc);
  return rc ? rc : t->rc;
}

void entry_put(txn *t, int kind, const char *name, respool_bytes bytes) {
  name_key k = entry_key(kind, name);
  entry e = {1, bytes};
  packer p;
  packer_init(&p);
  entry_pack(&p, &e);
  record_put(t, DB_ENTRIES, name_key_bytes(&k), &p);
  packer_free(&p);
}

void entry_del(txn *t, int kind, const char *name) {
  name_key k = entry_key(kind, name);
  txn_del(t, DB_ENTRIES, name_key_bytes(&k));
}

bool entry_get(txn *t, int kind, const char *name, respool_bytes *bytes,
               int *rc) {
  name_key k = entry_key(kind, name);
  respool_bytes v;
  entry e;
  if (!txn_get(t, DB_ENTRIES, name_key_bytes(&k), &v)) return false;
  if (!entry_unpack(name_key_bytes(&k), v, &e)) {
    *rc = damaged(kind, phrase_of(name));
    return false;
  }
  *bytes = e.bytes;
  return true;
}

int lmdb_entry_save(txn *t, const char *name, const entry_req *r) {
  name_key k = entry_key(r->kind, name);
  entry stored = {.revision = 0};
  respool_bytes v;
  packer p;
  bool there = txn_get(t, DB_ENTRIES, name_key_bytes(&k), &v);
  if (there && !entry_unpack(name_key_bytes(&k), v, &stored))
    return damaged(r->kind, phrase_of(name));
  if (t->rc) return t->rc;
  if (stored.revision != r->revision &&
      !FAULT_WRONG("revisions are compared"))
    return fail(RESPOOL_LOCKED, "'%.160s' was changed by another process",
                name);
  if (!r->bytes.data) {
    txn_del(t, DB_ENTRIES, name_key_bytes(&k));
    return t->rc;
  }
  entry next = {r->revision + 1, r->bytes};
  packer_init(&p);
  entry_pack(&p, &next);
  record_put(t, DB_ENTRIES, name_key_bytes(&k), &p);
  packer_free(&p);
  return t->rc;
}

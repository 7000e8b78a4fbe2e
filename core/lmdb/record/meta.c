/* SPDX-License-Identifier: MIT */
/*
 * The store's own records: its id, the numbers that it gives out to queues,
 * DLQs and blobs, and the figures of its file.
 */
#include "lmdb/record/meta.h"

#include "lmdb/record/records.h"

#include <stdio.h>

/* The number under `name`, or 1. */
static uint64_t meta_get(txn *t, respool_bytes name) {
  respool_bytes v;
  unpacker u;
  if (!txn_get(t, DB_META, name, &v)) return 1;
  unpacker_init(&u, v.data, v.size);
  return unpack_uint(&u);
}

uint64_t meta_number(txn *t, const char *name) {
  respool_bytes k = phrase_of(name);
  uint64_t n = meta_get(t, k);
  packer p;
  packer_init(&p);
  pack_uint(&p, n + 1);
  txn_put_packed(t, DB_META, k, &p);
  packer_free(&p);
  return n;
}

void meta_row_get(txn *t, const char *name, uint64_t *row, size_t n) {
  respool_bytes v;
  unpacker u;
  for (size_t i = 0; i < n; i++) row[i] = 0;
  if (!txn_get(t, DB_META, phrase_of(name), &v)) return;
  unpacker_init(&u, v.data, v.size);
  bool whole = unpack_array(&u) == n;
  for (size_t i = 0; i < n && whole; i++) row[i] = unpack_uint(&u);
  if (u.rc || !whole) txn_fail(t, RESPOOL_CORRUPT);
}

void meta_row_put(txn *t, const char *name, const uint64_t *row, size_t n) {
  packer p;
  packer_init(&p);
  pack_array(&p, n);
  for (size_t i = 0; i < n; i++) pack_uint(&p, row[i]);
  txn_put_packed(t, DB_META, phrase_of(name), &p);
  packer_free(&p);
}

/* ---- probes -------------------------------------------------------------- */

int lmdb_probe_write(txn *t, uint64_t *number) {
  *number = meta_number(t, "next probe");
  return t->rc;
}

int lmdb_probe_read(txn *t, uint64_t *number) {
  *number = meta_get(t, phrase_of("next probe")) - 1;
  return t->rc;
}

/* ---- figures ------------------------------------------------------------- */

/* The store's id as text; "" when it has none that can be read. */
static void read_id(txn *t, char out[33]) {
  respool_bytes v, id = {NULL, 0};
  if (txn_get(t, DB_META, (respool_bytes){"store", 5}, &v)) {
    unpacker u;
    unpacker_init(&u, v.data, v.size);
    id = unpack_bytes(&u);
  }
  out[0] = '\0';
  for (size_t i = 0; i < id.size && i < 16; i++)
    snprintf(&out[2 * i], 3, "%02x", ((const uint8_t *)id.data)[i]);
}

int lmdb_stat(txn *t, respool_store_stats *out) {
  txn_env_stat(t, out);
  read_id(t, out->id);
  return t->rc;
}

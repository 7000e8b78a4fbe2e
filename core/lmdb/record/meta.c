/* SPDX-License-Identifier: MIT */
/*
 * The store's own records: its id, the numbers that it gives out to queues,
 * DLQs and blobs, and the figures of its file.
 */
#include "lmdb/record/meta.h"

#include "lmdb/env/txn/space.h"
#include "lmdb/record/records.h"

#include <stdio.h>
#include <string.h>

void meta_row_get(txn *t, const char *name, uint64_t *row, size_t n) {
  respool_bytes v, k = phrase_of(name);
  for (size_t i = 0; i < n; i++) row[i] = 0;
  if (txn_get(t, DB_META, k, &v) && !row_unpack(k, v, row, n))
    txn_fail(t, RESPOOL_CORRUPT);
}

void meta_row_put(txn *t, const char *name, const uint64_t *row, size_t n) {
  packer p;
  packer_init(&p);
  row_pack(&p, row, n);
  record_put(t, DB_META, phrase_of(name), &p);
  packer_free(&p);
}

uint64_t meta_number(txn *t, const char *name) {
  uint64_t last;
  meta_row_get(t, name, &last, 1);
  last++;
  meta_row_put(t, name, &last, 1);
  return last;
}

/* ---- probes -------------------------------------------------------------- */

int lmdb_probe_write(txn *t, uint64_t *number) {
  *number = meta_number(t, "last probe");
  return t->rc;
}

int lmdb_probe_read(txn *t, uint64_t *number) {
  meta_row_get(t, "last probe", number, 1);
  return t->rc;
}

/* ---- figures ------------------------------------------------------------- */

static respool_bytes store_id(txn *t) {
  respool_bytes v, id = {NULL, 0};
  if (txn_get(t, DB_META, (respool_bytes){"store", 5}, &v)) {
    unpacker u;
    unpacker_init(&u, v.data, v.size);
    id = unpack_bytes(&u);
  }
  return id;
}

void meta_store(txn *t, uint8_t out[16]) {
  respool_bytes id = store_id(t);
  memset(out, 0, 16);
  if (id.size) memcpy(out, id.data, id.size < 16 ? id.size : 16);
}

/* The store's id as text; "" when it has none that can be read. */
static void read_id(txn *t, char out[33]) {
  respool_bytes id = store_id(t);
  out[0] = '\0';
  for (size_t i = 0; i < id.size && i < 16; i++)
    snprintf(&out[2 * i], 3, "%02x", ((const uint8_t *)id.data)[i]);
}

int lmdb_stat(txn *t, respool_store_stats *out) {
  space_stat(t, out);
  read_id(t, out->id);
  return t->rc;
}

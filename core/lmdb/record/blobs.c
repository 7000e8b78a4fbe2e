/* SPDX-License-Identifier: MIT */
/*
 * Blobs: packed items too large for a segment, in parts of at most four
 * pages, each with its checksum. A blob belongs to the record that refers to
 * it: the item moves between segments and dead letters, the blob stays.
 */
#include "lmdb/env/txn/cur.h"
#include "lmdb/record/blobs.h"

#include <string.h>

void blob_put(txn *t, uint64_t number, respool_bytes data) {
  const uint8_t *at = data.data;
  size_t left = data.size;
  packer p;
  packer_init(&p);
  for (uint32_t part = 0; left > 0 && !t->rc; part++) {
    size_t n = left < BLOB_PART ? left : BLOB_PART;
    key k = blob_key(number, part);
    packer_reset(&p);
    part_pack(&p, (respool_bytes){at, n});
    record_put(t, DB_BLOBS, key_bytes(&k), &p);
    at += n;
    left -= n;
  }
  packer_free(&p);
}

/* Copies one part to its place; false when it is damaged or does not fit. */
static bool copy_part(const cur *c, blob_ref r, uint32_t part, size_t *at,
                      char *into) {
  uint64_t number;
  uint32_t n;
  respool_bytes data;
  if (!blob_key_read(c->key, &number, &n) || number != r.number || n != part)
    return false;
  if (!part_unpack(c->key, c->value, &data) || data.size > r.size - *at)
    return false;
  memcpy(into + *at, data.data, data.size);
  *at += data.size;
  return true;
}

bool blob_get(txn *t, blob_ref r, void *into) {
  key k = blob_key(r.number, 0);
  size_t at = 0;
  cur c;
  cur_open(&c, t, DB_BLOBS);
  bool ok = cur_seek(&c, key_bytes(&k));
  for (uint32_t part = 0; ok; part++) {
    ok = copy_part(&c, r, part, &at, into);
    if (ok && at == r.size) break;
    ok = ok && cur_next(&c);
  }
  cur_close(&c);
  return ok;
}

/* The bytes of a part, whatever its checksum says; the whole record where it
   cannot be read as a part. */
static respool_bytes part_bytes(respool_bytes stored) {
  unpacker u;
  unpacker_init(&u, stored.data, stored.size);
  size_t n = unpack_array(&u);
  (void)unpack_uint(&u);
  respool_bytes data = unpack_bytes(&u);
  return u.rc || n != 2 ? stored : data;
}

size_t blob_read_damaged(txn *t, blob_ref r, void *into) {
  key k = blob_key(r.number, 0);
  uint64_t number;
  uint32_t part;
  size_t at = 0;
  cur c;
  cur_open(&c, t, DB_BLOBS);
  bool more = cur_seek(&c, key_bytes(&k));
  for (; more && at < r.size; more = cur_next(&c)) {
    if (!blob_key_read(c.key, &number, &part) || number != r.number) break;
    respool_bytes data = part_bytes(c.value);
    size_t n = data.size < r.size - at ? data.size : r.size - at;
    memcpy((char *)into + at, data.data, n);
    at += n;
  }
  cur_close(&c);
  return at;
}

void blob_del(txn *t, uint64_t number) {
  key k = blob_key(number, 0);
  uint64_t found;
  uint32_t part;
  cur c;
  cur_open(&c, t, DB_BLOBS);
  while (cur_seek(&c, key_bytes(&k)) &&
         blob_key_read(c.key, &found, &part) && found == number)
    cur_del(&c);
  cur_close(&c);
}

blob_ref blob_of(respool_bytes packed) {
  item i;
  blob_ref r;
  unpacker u;
  const uint8_t *head = packed.data;
  if (!packed.size || head[0] != 0x82) return (blob_ref){0, 0};
  unpacker_init(&u, packed.data, packed.size);
  if (!item_unpack(&u, &i, &r)) r.number = 0;
  return r;
}

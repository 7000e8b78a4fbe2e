/* SPDX-License-Identifier: MIT */
/*
 * Packing and unpacking of fields; see fields.h.
 */
#include "record/fields.h"

#include "base/hash.h"

#include <string.h>

void unpack_expect(unpacker *u, bool holds) {
  if (!holds && !u->rc) u->rc = RESPOOL_CORRUPT;
}

int unpack_priority(unpacker *u) {
  uint64_t n = unpack_uint(u);
  unpack_expect(u, n < RESPOOL_PRIORITIES);
  return u->rc ? 0 : (int)n;
}

void unpack_name(unpacker *u, char *name) {
  respool_bytes b = unpack_phrase(u);
  unpack_expect(u, b.size <= RESPOOL_NAME_MAX);
  if (u->rc) b.size = 0;
  if (b.size) memcpy(name, b.data, b.size);
  name[b.size] = '\0';
}

void pack_memo(packer *p, respool_bytes memo) {
  if (memo.size)
    pack_bytes(p, memo.data, memo.size);
  else
    pack_null(p);
}

respool_bytes unpack_memo(unpacker *u) {
  if (unpack_null(u)) return (respool_bytes){NULL, 0};
  return unpack_bytes(u);
}

respool_bytes unpack_failures(unpacker *u) {
  if (unpack_null(u)) return (respool_bytes){NULL, 0};
  return unpack_skip(u);
}

/* ---- checksums ---------------------------------------------------------- */

#define SUM_AT 1   /* behind the array head */
#define SUM_END 10

uint64_t key_seed(respool_bytes key) {
  return XXH3_64bits(key.data, key.size);
}

static uint64_t sum_of(const uint8_t *b, size_t size, uint64_t seed) {
  return XXH3_64bits_withSeed(b + SUM_END, size - SUM_END, seed);
}

void record_begin(packer *p, size_t n) {
  pack_array(p, n + 1);
  pack_fixed(p, 0);
}

void sum_put(packer *p, size_t start, uint64_t seed) {
  if (p->rc) return;
  uint8_t *b = p->data + start;
  uint64_t sum = sum_of(b, p->len - start, seed);
  for (int i = 0; i < 8; i++)
    b[SUM_AT + 1 + i] = (uint8_t)(sum >> (56 - 8 * i));
}

void record_open(unpacker *u, respool_bytes b, size_t n, uint64_t seed) {
  unpacker_init(u, b.data, b.size);
  unpack_expect(u, unpack_array(u) == n + 1);
  uint64_t sum = unpack_uint(u);
  const uint8_t *start = b.data;
  unpack_expect(u, b.size > SUM_END && u->at == start + SUM_END);
  if (!u->rc) unpack_expect(u, sum == sum_of(start, b.size, seed));
}

/* SPDX-License-Identifier: MIT */
/*
 * Packing and unpacking of fields; see fields.h.
 */
#include "record/fields.h"

#include <string.h>
#include <xxhash.h>

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

void sum_put(packer *p, size_t start) {
  if (p->rc) return;
  uint8_t *b = p->data + start;
  uint64_t sum = XXH3_64bits(b + SUM_END, p->len - start - SUM_END);
  for (int i = 0; i < 8; i++)
    b[SUM_AT + 1 + i] = (uint8_t)(sum >> (56 - 8 * i));
}

void sum_open(unpacker *u, respool_bytes b, size_t n) {
  unpacker_init(u, b.data, b.size);
  unpack_expect(u, unpack_array(u) == n);
  uint64_t sum = unpack_uint(u);
  const uint8_t *start = b.data;
  unpack_expect(u, b.size > SUM_END && u->at == start + SUM_END);
  if (!u->rc) unpack_expect(u, sum == XXH3_64bits(u->at, b.size - SUM_END));
}

/* SPDX-License-Identifier: MIT */
/*
 * A set of names; see name_filter.h. With sixteen bits a name, of which six are
 * set, it is wrong about one name in some hundred at most.
 */
#include "lmdb/partition/name_filter.h"

#include "record/fields.h"

#include <stdlib.h>

#define BLOCK_WORDS 8
#define BLOCK_NAMES 32 /* 512 bits */
#define BITS 6
#define BIT_OF(h, i) ((h) >> (9 * (i)) & 511)

bool name_filter_reset(name_filter *f, uint64_t room) {
  uint64_t blocks = 1;
  while (blocks * BLOCK_NAMES < room) blocks *= 2;
  uint64_t *words = blocks <= SIZE_MAX / 64 ? calloc((size_t)blocks, 64) : NULL;
  if (!words) return false;
  free(f->words);
  *f = (name_filter){words, blocks, 0, blocks * BLOCK_NAMES};
  return true;
}

void name_filter_free(name_filter *f) {
  free(f->words);
}

static uint64_t *block_of(const name_filter *f, uint64_t hash) {
  uint64_t mixed = hash * 0x9e3779b97f4a7c15u;
  return f->words + (mixed >> 32 & (f->blocks - 1)) * BLOCK_WORDS;
}

void name_filter_add(name_filter *f, respool_bytes name) {
  uint64_t hash = key_seed(name), *block = block_of(f, hash);
  for (int i = 0; i < BITS; i++) {
    uint64_t bit = BIT_OF(hash, i);
    block[bit / 64] |= (uint64_t)1 << bit % 64;
  }
  f->n++;
}

bool name_filter_has(const name_filter *f, respool_bytes name) {
  uint64_t hash = key_seed(name);
  const uint64_t *block = block_of(f, hash);
  for (int i = 0; i < BITS; i++) {
    uint64_t bit = BIT_OF(hash, i);
    if (!(block[bit / 64] >> bit % 64 & 1)) return false;
  }
  return true;
}

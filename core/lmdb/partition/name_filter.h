/* SPDX-License-Identifier: MIT */
/*
 * A set of names that may say that it has one which it has not, and never the
 * other way round: a Bloom filter whose bits of a name lie in 64 bytes.
 */
#ifndef NAME_FILTER_H
#define NAME_FILTER_H

#include "engine.h"

typedef struct name_filter {
  uint64_t *words; /* NULL: it has none yet */
  uint64_t blocks; /* of 64 bytes; a power of two */
  uint64_t n, room; /* names added, and how many may be */
} name_filter;

/* Empty, with room for so many names at least; false, and as it was, when out
   of memory. */
bool name_filter_reset(name_filter *f, uint64_t room);
void name_filter_free(name_filter *f);

void name_filter_add(name_filter *f, respool_bytes name);
bool name_filter_has(const name_filter *f, respool_bytes name);

#endif

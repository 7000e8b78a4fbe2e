/* SPDX-License-Identifier: MIT */
/*
 * What the fuzz targets share. A target is one function, which libFuzzer
 * calls (`make fuzz`), or replay.c with the files of the corpus
 * (`make test`). It crashes when something is wrong.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* A copy of its own size, so that a byte too far is seen. */
static inline uint8_t *fuzz_copy(const uint8_t *data, size_t n) {
  uint8_t *copy = malloc(n ? n : 1);
  if (!copy) abort();
  if (n) memcpy(copy, data, n);
  return copy;
}

/* Gives a record of more than 10 bytes its checksum: bytes 2 to 9. */
static inline void fuzz_sum(uint8_t *b, size_t n, uint64_t seed) {
  uint64_t sum = XXH3_64bits_withSeed(b + 10, n - 10, seed);
  b[1] = 0x1b;
  for (int i = 0; i < 8; i++) b[2 + i] = (uint8_t)(sum >> (56 - 8 * i));
}

#endif

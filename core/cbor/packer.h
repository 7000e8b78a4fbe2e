/* SPDX-License-Identifier: MIT */
/*
 * Writing CBOR (RFC 8949), to a buffer that grows. The error is sticky: after
 * the first failure every step is a no-op, and `rc` is read once, at the end.
 */
#ifndef PACKER_H
#define PACKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "respool.h"

typedef struct packer {
  uint8_t *data;
  size_t len, cap;
  int rc; /* 0 or RESPOOL_NOMEM */
} packer;

void packer_init(packer *p);
void packer_free(packer *p);
void packer_reserve(packer *p, size_t n); /* a hint */
void packer_reset(packer *p); /* empty, memory kept, error forgotten */

/* `n` more bytes at the end, uninitialised; NULL after an error. */
uint8_t *packer_grow(packer *p, size_t n);

void pack_raw(packer *p, const void *data, size_t n); /* no head */
void pack_uint(packer *p, uint64_t v);
void pack_int(packer *p, int64_t v);
void pack_fixed(packer *p, uint64_t v); /* always 9 bytes, to be patched */
void pack_bytes(packer *p, const void *data, size_t n);
void pack_text(packer *p, const void *data, size_t n);
void pack_string(packer *p, const void *data, size_t n); /* text where it
                                          is valid UTF-8, else bytes */
void pack_array(packer *p, size_t n);
void pack_map(packer *p, size_t n);

/* A map whose length is known only at its end: open, the pairs, then close
   with the place that open returned and their number. */
size_t pack_map_open(packer *p);
void pack_map_close(packer *p, size_t at, size_t n);

void pack_double(packer *p, double v); /* shortest exact form */
void pack_bool(packer *p, bool v);
void pack_null(packer *p);

#endif

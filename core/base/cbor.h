/* SPDX-License-Identifier: MIT */
/*
 * CBOR (RFC 8949) as the core writes and reads it: a packer that appends to
 * a growing buffer, an unpacker that reads bounded bytes. Floats, simple values
 * and indefinite lengths are libcbor's streaming half's. Both carry a sticky
 * error: after the first failure every step is a no-op, and `rc` is read once,
 * at the end. Neither allocates the size that a length field asks for.
 */
#ifndef CBOR_H
#define CBOR_H

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

enum cbor_kind {
  CBOR_UINT, CBOR_NEGINT, /* value: -1 - u */
  CBOR_BYTES, CBOR_TEXT, CBOR_ARRAY, CBOR_MAP, CBOR_TAG, CBOR_FLOAT,
  CBOR_TRUE, CBOR_FALSE, CBOR_NULL, CBOR_UNDEFINED,
  CBOR_BYTES_START, CBOR_TEXT_START, CBOR_ARRAY_START, CBOR_MAP_START,
  CBOR_BREAK /* indefinite lengths */
};

/* One head, with the string that follows it. */
typedef struct cbor_head {
  enum cbor_kind kind;
  uint64_t u;          /* integer, tag number, or count of elements */
  double f;
  respool_bytes bytes; /* borrowed from the input */
} cbor_head;

typedef struct unpacker {
  const uint8_t *at, *end;
  int rc; /* 0 or RESPOOL_CORRUPT; a caller that finds a bad value may set it */
} unpacker;

void unpacker_init(unpacker *u, const void *data, size_t n);

/* The next head; false at a truncation, a reserved form, or after an
   error. */
bool unpack_head(unpacker *u, cbor_head *h);

/* The next item, which must be of the kind asked for; 0 or empty after an
   error. Counts are checked against the bytes left: an array of n has at
   least n more bytes, a map 2n. */
uint64_t unpack_uint(unpacker *u);
int64_t unpack_int(unpacker *u);
respool_bytes unpack_bytes(unpacker *u); /* definite byte string */
respool_bytes unpack_text(unpacker *u);  /* definite text string */
size_t unpack_array(unpacker *u);
size_t unpack_map(unpacker *u);
double unpack_double(unpacker *u);
bool unpack_bool(unpacker *u);
bool unpack_null(unpacker *u); /* reads a null, if it is next */
enum cbor_kind unpack_peek(unpacker *u); /* kind of the next head, unread;
                                            CBOR_BREAK at end or error */

/* Skips one well-formed item, nested 64 deep at most, and returns its
   bytes. */
respool_bytes unpack_skip(unpacker *u);

/* True when the bytes are valid UTF-8 (RFC 3629: no surrogates, nothing
   over U+10FFFF, no overlong forms). */
bool utf8_valid(const void *data, size_t n);

#endif

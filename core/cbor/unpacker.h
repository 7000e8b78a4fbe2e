/* SPDX-License-Identifier: MIT */
/*
 * Reading CBOR (RFC 8949), from bounded bytes. The error is sticky: after the
 * first failure every step is a no-op, and `rc` is read once, at the end. The
 * size that a length field asks for is never allocated.
 */
#ifndef UNPACKER_H
#define UNPACKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "respool.h"

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

#endif

/* SPDX-License-Identifier: MIT */
/*
 * The packer; see packer.h. Heads of numbers, strings, arrays and maps, which
 * every item and record has, doubles and simple values are made here; shorter
 * floats are libcbor's.
 */
#include "cbor/packer.h"

#include <endian.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cbor/encoding.h>

#include "cbor/utf8.h"

#define HEAD_MAX 9 /* bytes */
#define SHORT_MAX 23 /* the largest number that a one-byte head holds */

void packer_init(packer *p) {
  *p = (packer){0};
}

void packer_free(packer *p) {
  free(p->data);
  packer_init(p);
}

void packer_reset(packer *p) {
  p->len = 0;
  p->rc = 0;
}

/* Makes room for more than `n` bytes, at least doubling the buffer. A failure
   leaves no room at all, so that every later step comes here again. */
static bool enlarge(packer *p, size_t n) {
  if (p->rc != 0) return false;
  size_t cap = p->cap < 128 ? 256 : p->cap * 2;
  if (cap - p->len <= n) cap = p->len + n + 1;
  uint8_t *data = n > SIZE_MAX / 4 ? NULL : realloc(p->data, cap);
  if (data == NULL) {
    p->cap = p->len;
    p->rc = RESPOOL_NOMEM;
    return false;
  }
  p->data = data;
  p->cap = cap;
  return true;
}

/* Where the next `n` bytes go; NULL after an error. */
static inline uint8_t *room(packer *p, size_t n) {
  if (p->cap - p->len <= n && !enlarge(p, n)) return NULL;
  return p->data + p->len;
}

void packer_reserve(packer *p, size_t n) {
  room(p, n);
}

uint8_t *packer_grow(packer *p, size_t n) {
  uint8_t *at = room(p, n);
  if (at != NULL) p->len += n;
  return at;
}

void pack_raw(packer *p, const void *data, size_t n) {
  uint8_t *at = packer_grow(p, n);
  if (at != NULL && n > 0) memcpy(at, data, n);
}

enum { UINT = 0, NEGINT = 0x20, BYTES = 0x40, TEXT = 0x60, ARRAY = 0x80,
       MAP = 0xa0 }; /* major types, in place in the initial byte */

static size_t long_head(uint8_t major, uint64_t v, uint8_t *at) {
  int size = v > UINT32_MAX ? 8 : v > UINT16_MAX ? 4 : v > UINT8_MAX ? 2 : 1;
  at[0] = (uint8_t)(major | (SHORT_MAX + 1 + __builtin_ctz((unsigned)size)));
  v = htobe64(v << (64 - 8 * size));
  memcpy(at + 1, &v, sizeof v); /* there is room for HEAD_MAX */
  return 1 + (size_t)size;
}

static inline size_t write_head(uint8_t major, uint64_t v, uint8_t *at) {
  if (v > SHORT_MAX) return long_head(major, v, at);
  *at = (uint8_t)(major | v);
  return 1;
}

static inline void pack_head(packer *p, uint8_t major, uint64_t v) {
  uint8_t *at = room(p, HEAD_MAX);
  if (at != NULL) p->len += write_head(major, v, at);
}

void pack_uint(packer *p, uint64_t v) {
  pack_head(p, UINT, v);
}

void pack_int(packer *p, int64_t v) {
  if (v < 0)
    pack_head(p, NEGINT, ~(uint64_t)v);
  else
    pack_head(p, UINT, (uint64_t)v);
}

void pack_fixed(packer *p, uint64_t v) {
  uint8_t *at = room(p, HEAD_MAX);
  if (at != NULL) p->len += cbor_encode_uint64(v, at, HEAD_MAX);
}

static void pack_chars(packer *p, uint8_t major, const void *data, size_t n) {
  uint8_t *at = room(p, n + HEAD_MAX);
  if (at == NULL) return;
  size_t size = write_head(major, n, at);
  if (n > 0) memcpy(at + size, data, n);
  p->len += size + n;
}

void pack_bytes(packer *p, const void *data, size_t n) {
  pack_chars(p, BYTES, data, n);
}

void pack_text(packer *p, const void *data, size_t n) {
  pack_chars(p, TEXT, data, n);
}

static inline uint64_t copy8(uint8_t *to, const uint8_t *s) {
  uint64_t word;
  memcpy(&word, s, sizeof word);
  memcpy(to, &word, sizeof word);
  return word;
}

static inline uint64_t copy4(uint8_t *to, const uint8_t *s) {
  uint32_t word;
  memcpy(&word, s, sizeof word);
  memcpy(to, &word, sizeof word);
  return word;
}

/* Copies n characters; true if they are ASCII. The last word may begin in the
   one before it. */
static inline bool copy_ascii(uint8_t *to, const uint8_t *s, size_t n) {
  uint64_t seen = 0;
  if (n >= 8) {
    for (size_t i = 0; i + 8 < n; i += 8) seen |= copy8(to + i, s + i);
    seen |= copy8(to + n - 8, s + n - 8);
  } else if (n >= 4) {
    seen = copy4(to, s) | copy4(to + n - 4, s + n - 4);
  } else {
    while (n-- > 0) seen |= *to++ = *s++;
  }
  return (seen & NOT_ASCII) == 0;
}

void pack_string(packer *p, const void *data, size_t n) {
  uint8_t *at = n > SHORT_MAX ? NULL : room(p, n + 1);
  if (at == NULL || !copy_ascii(at + 1, data, n)) { /* not short and plain? */
    pack_chars(p, utf8_valid(data, n) ? TEXT : BYTES, data, n);
    return;
  }
  *at = (uint8_t)(TEXT | n);
  p->len += n + 1;
}

void pack_array(packer *p, size_t n) {
  pack_head(p, ARRAY, n);
}

void pack_map(packer *p, size_t n) {
  pack_head(p, MAP, n);
}

size_t pack_map_open(packer *p) {
  size_t at = p->len;
  packer_grow(p, 1); /* enough for 23 pairs */
  return at;
}

void pack_map_close(packer *p, size_t at, size_t n) {
  uint8_t first[HEAD_MAX];
  size_t size = write_head(MAP, n, first), pairs = p->len - at - 1;
  if (packer_grow(p, size - 1) == NULL) return;
  uint8_t *map = p->data + at;
  if (size > 1) memmove(map + size, map + 1, pairs);
  memcpy(map, first, size);
}

/* Half precision, where that is exact. Made here because libcbor 0.8 does
   not say whether it is, and keeps only the highest bit of a subnormal. */
static bool half_bits(float f, uint16_t *half) {
  uint32_t b;
  memcpy(&b, &f, sizeof b);
  uint32_t sign = b >> 16 & 0x8000, mantissa = b & 0x7fffff;
  int exponent = (int)(b >> 23 & 0xff) - 127;
  uint32_t h = 0;
  if (exponent >= -14 && exponent <= 15) { /* normal? */
    if (mantissa & 0x1fff) return false;
    h = (uint32_t)(exponent + 15) << 10 | mantissa >> 13;
  } else if (exponent >= -24 && exponent < -14) { /* subnormal? */
    int shift = -1 - exponent;
    mantissa |= 0x800000;
    if (mantissa & ((UINT32_C(1) << shift) - 1)) return false;
    h = mantissa >> shift;
  } else if (exponent == 128) { /* infinite, or not a number? */
    h = mantissa ? 0x7e00 : 0x7c00;
    if (mantissa) sign = 0;
  } else if (f != 0) {
    return false;
  }
  *half = (uint16_t)(sign | h);
  return true;
}

static size_t write_double(double v, uint8_t *at) {
  uint64_t bits;
  memcpy(&bits, &v, sizeof bits);
  bits = htobe64(bits);
  at[0] = 0xfb;
  memcpy(at + 1, &bits, sizeof bits);
  return HEAD_MAX;
}

void pack_double(packer *p, double v) {
  uint8_t *at = room(p, HEAD_MAX);
  if (at == NULL) return;
  uint16_t half;
  float f = isfinite(v) && fabs(v) > FLT_MAX ? 0 : (float)v;
  if (!isnan(v) && (double)f != v) {
    p->len += write_double(v, at);
  } else if (half_bits(f, &half)) {
    at[0] = 0xf9;
    at[1] = (uint8_t)(half >> 8);
    at[2] = (uint8_t)half;
    p->len += 3;
  } else {
    p->len += cbor_encode_single(f, at, HEAD_MAX);
  }
}

static void pack_simple(packer *p, uint8_t head) {
  uint8_t *at = packer_grow(p, 1);
  if (at != NULL) *at = head;
}

void pack_bool(packer *p, bool v) {
  pack_simple(p, v ? 0xf5 : 0xf4);
}

void pack_null(packer *p) {
  pack_simple(p, 0xf6);
}

/* SPDX-License-Identifier: MIT */
/*
 * The packer and the unpacker of cbor.h. Heads of numbers, strings, arrays,
 * maps and tags, which every item and record has, are made and read here;
 * floats, simple values and indefinite lengths are libcbor's, with a guard for
 * each place where libcbor 0.8 differs from RFC 8949. The unpacker never reads
 * beyond `end`, and leaves `at` on the head that it could not read.
 */
#include "base/cbor.h"

#include <endian.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <cbor/encoding.h>
#include <cbor/streaming.h>

#define HEAD_MAX 9 /* bytes */
#define SHORT_MAX 23 /* the largest number that a one-byte head holds */
#define LENGTH_MAX 27 /* in the low bits: up to here a number follows */
#define DEPTH_MAX 64
#define NOT_ASCII UINT64_C(0x8080808080808080)


/* ---- packer ----------------------------------------------------------- */

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

static inline size_t head(uint8_t major, uint64_t v, uint8_t *at) {
  if (v > SHORT_MAX) return long_head(major, v, at);
  *at = (uint8_t)(major | v);
  return 1;
}

static inline void pack_head(packer *p, uint8_t major, uint64_t v) {
  uint8_t *at = room(p, HEAD_MAX);
  if (at != NULL) p->len += head(major, v, at);
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
  size_t size = head(major, n, at);
  if (n > 0) memcpy(at + size, data, n);
  p->len += size + n;
}

void pack_bytes(packer *p, const void *data, size_t n) {
  pack_chars(p, BYTES, data, n);
}

void pack_text(packer *p, const void *data, size_t n) {
  pack_chars(p, TEXT, data, n);
}

/* Copies n characters; true if they are ASCII. */
static inline bool copy_ascii(uint8_t *to, const uint8_t *s, size_t n) {
  uint64_t word, seen = 0;
  for (; n >= sizeof word; n -= sizeof word) {
    memcpy(&word, s, sizeof word);
    memcpy(to, &word, sizeof word);
    seen |= word;
    s += sizeof word;
    to += sizeof word;
  }
  while (n-- > 0) seen |= *to++ = *s++;
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
  size_t size = head(MAP, n, first), pairs = p->len - at - 1;
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

void pack_double(packer *p, double v) {
  uint8_t *at = room(p, HEAD_MAX);
  if (at == NULL) return;
  uint16_t half;
  float f = isfinite(v) && fabs(v) > FLT_MAX ? 0 : (float)v;
  if (!isnan(v) && (double)f != v) {
    p->len += cbor_encode_double(v, at, HEAD_MAX);
  } else if (half_bits(f, &half)) {
    at[0] = 0xf9;
    at[1] = (uint8_t)(half >> 8);
    at[2] = (uint8_t)half;
    p->len += 3;
  } else {
    p->len += cbor_encode_single(f, at, HEAD_MAX);
  }
}

void pack_bool(packer *p, bool v) {
  uint8_t *at = room(p, HEAD_MAX);
  if (at != NULL) p->len += cbor_encode_bool(v, at, HEAD_MAX);
}

void pack_null(packer *p) {
  uint8_t *at = room(p, HEAD_MAX);
  if (at != NULL) p->len += cbor_encode_null(at, HEAD_MAX);
}


/* ---- heads ------------------------------------------------------------ */

static void set_kind(cbor_head *h, enum cbor_kind kind) {
  h->kind = kind;
}

static void set_float(cbor_head *h, double v) {
  h->kind = CBOR_FLOAT;
  h->f = v;
}

static void on_float(void *h, float v) { set_float(h, (double)v); }
static void on_double(void *h, double v) { set_float(h, v); }

static void on_bool(void *h, bool v) {
  set_kind(h, v ? CBOR_TRUE : CBOR_FALSE);
}

static void on_null(void *h) { set_kind(h, CBOR_NULL); }
static void on_undefined(void *h) { set_kind(h, CBOR_UNDEFINED); }
static void on_bytes_start(void *h) { set_kind(h, CBOR_BYTES_START); }
static void on_text_start(void *h) { set_kind(h, CBOR_TEXT_START); }
static void on_array_start(void *h) { set_kind(h, CBOR_ARRAY_START); }
static void on_map_start(void *h) { set_kind(h, CBOR_MAP_START); }
static void on_break(void *h) { set_kind(h, CBOR_BREAK); }

static const struct cbor_callbacks callbacks = {
  .byte_string_start = on_bytes_start, .string_start = on_text_start,
  .indef_array_start = on_array_start, .indef_map_start = on_map_start,
  .float2 = on_float, .float4 = on_float, .float8 = on_double,
  .undefined = on_undefined, .null = on_null, .boolean = on_bool,
  .indef_break = on_break,
};


/* ---- unpacker --------------------------------------------------------- */

void unpacker_init(unpacker *u, const void *data, size_t n) {
  *u = (unpacker){data, n > 0 ? (const uint8_t *)data + n : data, 0};
}

static size_t left(const unpacker *u) {
  return (size_t)(u->end - u->at);
}

static bool corrupt(unpacker *u) {
  u->rc = RESPOOL_CORRUPT;
  return false;
}

_Static_assert(CBOR_UINT == 0 && CBOR_TEXT == 3 && CBOR_TAG == 6,
               "the first kinds are the major types");

/* Is a head a number, string, array, map or tag of definite length, as nearly
   all are? Those are read here: libcbor's switch and callback take a tenth of
   the time of decoding. Also, libcbor 0.8 rejects tags 6 to 20 as malformed,
   though only their meaning is unassigned, and cuts a length to a size_t. */
static inline bool is_plain(uint8_t first) {
  return first < 0xe0 && (first & 0x1f) <= LENGTH_MAX;
}

/* A number of so many bytes, of which `end` leaves room for as many. */
static inline uint64_t read_number(const uint8_t *at, const uint8_t *end,
                                   unsigned bytes) {
  uint64_t v = 0;
  if (end - at >= (ptrdiff_t)sizeof v) { /* without a loop, which guesses */
    memcpy(&v, at, sizeof v);
    return be64toh(v) >> (64 - 8 * bytes);
  }
  while (bytes-- > 0) v = v << 8 | *at++;
  return v;
}

static inline bool read_plain(unpacker *u, cbor_head *h) {
  unsigned first = *u->at, low = first & 0x1f;
  const uint8_t *next = u->at + 1;
  uint64_t v = low;
  if (low > SHORT_MAX) {
    unsigned bytes = 1u << (low - SHORT_MAX - 1);
    if (bytes > u->end - next) return false;
    v = read_number(next, u->end, bytes);
    next += bytes;
  }
  h->kind = (enum cbor_kind)(first >> 5);
  h->u = v;
  if (h->kind == CBOR_BYTES || h->kind == CBOR_TEXT) {
    if (v > (uint64_t)(u->end - next)) return false;
    h->bytes = (respool_bytes){next, (size_t)v};
    next += v;
  }
  u->at = next;
  return true;
}

bool unpack_head(unpacker *u, cbor_head *h) {
  if (u->rc != 0) return false;
  if (u->at == u->end) return corrupt(u);
  if (is_plain(*u->at)) return read_plain(u, h) || corrupt(u);
  struct cbor_decoder_result r =
      cbor_stream_decode(u->at, left(u), &callbacks, h);
  if (r.status != CBOR_DECODER_FINISHED) return corrupt(u);
  u->at += r.read;
  return true;
}

static bool expect(unpacker *u, enum cbor_kind kind, cbor_head *h) {
  if (!unpack_head(u, h)) return false;
  return h->kind == kind || corrupt(u);
}

uint64_t unpack_uint(unpacker *u) {
  cbor_head h;
  return expect(u, CBOR_UINT, &h) ? h.u : 0;
}

int64_t unpack_int(unpacker *u) {
  cbor_head h;
  if (!unpack_head(u, &h)) return 0;
  bool integer = h.kind == CBOR_UINT || h.kind == CBOR_NEGINT;
  if (!integer || h.u > INT64_MAX) {
    corrupt(u);
    return 0;
  }
  return h.kind == CBOR_UINT ? (int64_t)h.u : -1 - (int64_t)h.u;
}

respool_bytes unpack_bytes(unpacker *u) {
  cbor_head h;
  return expect(u, CBOR_BYTES, &h) ? h.bytes : (respool_bytes){NULL, 0};
}

respool_bytes unpack_text(unpacker *u) {
  cbor_head h;
  return expect(u, CBOR_TEXT, &h) ? h.bytes : (respool_bytes){NULL, 0};
}

/* A count of elements, if there are bytes for them at `size` each. */
static size_t unpack_count(unpacker *u, enum cbor_kind kind, size_t size) {
  cbor_head h;
  if (!expect(u, kind, &h)) return 0;
  if (h.u > left(u) / size) {
    corrupt(u);
    return 0;
  }
  return (size_t)h.u;
}

size_t unpack_array(unpacker *u) {
  return unpack_count(u, CBOR_ARRAY, 1);
}

size_t unpack_map(unpacker *u) {
  return unpack_count(u, CBOR_MAP, 2);
}

double unpack_double(unpacker *u) {
  cbor_head h;
  return expect(u, CBOR_FLOAT, &h) ? h.f : 0;
}

bool unpack_bool(unpacker *u) {
  cbor_head h;
  if (!unpack_head(u, &h)) return false;
  if (h.kind == CBOR_TRUE) return true;
  if (h.kind != CBOR_FALSE) corrupt(u);
  return false;
}

bool unpack_null(unpacker *u) {
  if (u->rc != 0 || u->at == u->end || *u->at != 0xf6) return false;
  u->at++;
  return true;
}

enum cbor_kind unpack_peek(unpacker *u) {
  unpacker ahead = *u;
  cbor_head h;
  return unpack_head(&ahead, &h) ? h.kind : CBOR_BREAK;
}


/* ---- skipping --------------------------------------------------------- */

static bool skip_item(unpacker *u, int depth);

static bool skip_items(unpacker *u, uint64_t n, int depth) {
  if (depth >= DEPTH_MAX || n > left(u)) return corrupt(u);
  while (n-- > 0)
    if (!skip_item(u, depth + 1)) return false;
  return true;
}

/* Reads a break if it is next. */
static bool at_break(unpacker *u) {
  if (u->at == u->end || *u->at != 0xff) return false;
  u->at++;
  return true;
}

/* Skips to the break, in groups of `size`: a map has no key without value. */
static bool skip_open(unpacker *u, uint64_t size, int depth) {
  if (depth >= DEPTH_MAX) return corrupt(u);
  while (!at_break(u))
    if (!skip_items(u, size, depth)) return false;
  return true;
}

static bool skip_chunks(unpacker *u, enum cbor_kind kind) {
  cbor_head h;
  while (!at_break(u))
    if (!expect(u, kind, &h)) return false;
  return true;
}

static bool skip_item(unpacker *u, int depth) {
  cbor_head h;
  do {
    if (!unpack_head(u, &h)) return false;
  } while (h.kind == CBOR_TAG);
  switch (h.kind) {
    case CBOR_ARRAY: return skip_items(u, h.u, depth);
    case CBOR_MAP:
      return h.u <= left(u) ? skip_items(u, 2 * h.u, depth) : corrupt(u);
    case CBOR_ARRAY_START: return skip_open(u, 1, depth);
    case CBOR_MAP_START: return skip_open(u, 2, depth);
    case CBOR_BYTES_START: return skip_chunks(u, CBOR_BYTES);
    case CBOR_TEXT_START: return skip_chunks(u, CBOR_TEXT);
    case CBOR_BREAK: return corrupt(u);
    default: return true;
  }
}

respool_bytes unpack_skip(unpacker *u) {
  const uint8_t *start = u->at;
  if (!skip_item(u, 0)) return (respool_bytes){NULL, 0};
  return (respool_bytes){start, (size_t)(u->at - start)};
}


/* ---- UTF-8 ------------------------------------------------------------ */

static uint64_t load64(const uint8_t *s) {
  uint64_t word;
  memcpy(&word, s, sizeof word);
  return word;
}

static uint32_t load32(const uint8_t *s) {
  uint32_t word;
  memcpy(&word, s, sizeof word);
  return word;
}

/* Compares words; the last one may overlap the one before. */
static bool all_ascii(const uint8_t *s, size_t n) {
  uint64_t seen = 0;
  if (n >= 8) {
    for (size_t i = 0; i < n - 8; i += 8) seen |= load64(s + i);
    seen |= load64(s + n - 8);
  } else if (n >= 4) {
    seen = load32(s) | load32(s + n - 4);
  } else if (n > 0) {
    seen = s[0] | s[n / 2] | s[n - 1];
  }
  return (seen & NOT_ASCII) == 0;
}

static const uint8_t *skip_ascii(const uint8_t *s, const uint8_t *end) {
  while (end - s >= 8 && (load64(s) & NOT_ASCII) == 0) s += 8;
  while (s < end && *s < 0x80) s++;
  return s;
}

static bool between(uint8_t b, uint8_t low, uint8_t high) {
  return b >= low && b <= high;
}

/* The length of the UTF-8 sequence at `s`, which has `n` > 0 bytes; 0 when it
   is none. The bounds of the second byte exclude overlong forms, surrogates
   and numbers over U+10FFFF (RFC 3629, section 4). */
static size_t sequence(const uint8_t *s, size_t n) {
  uint8_t lead = s[0], low = 0x80, high = 0xbf;
  size_t size = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  if (!between(lead, 0xc2, 0xf4) || n < size) return 0;
  if (lead == 0xe0) low = 0xa0;
  if (lead == 0xed) high = 0x9f;
  if (lead == 0xf0) low = 0x90;
  if (lead == 0xf4) high = 0x8f;
  if (!between(s[1], low, high)) return 0;
  for (size_t i = 2; i < size; i++)
    if (!between(s[i], 0x80, 0xbf)) return 0;
  return size;
}

bool utf8_valid(const void *data, size_t n) {
  if (all_ascii(data, n)) return true;
  const uint8_t *s = data, *end = s + n;
  while ((s = skip_ascii(s, end)) < end) {
    size_t size = sequence(s, (size_t)(end - s));
    if (size == 0) return false;
    s += size;
  }
  return true;
}

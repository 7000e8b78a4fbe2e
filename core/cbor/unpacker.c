/* SPDX-License-Identifier: MIT */
/*
 * The unpacker; see unpacker.h. Heads of numbers, strings, arrays, maps and
 * tags, which every item and record has, doubles, booleans and null are read
 * here; shorter floats and indefinite lengths are libcbor's, with a guard for
 * each place where libcbor 0.8 differs from RFC 8949. It never reads beyond
 * `end`, and leaves `at` on the head that it could not read.
 */
#include "cbor/unpacker.h"

#include <endian.h>
#include <string.h>

#include <cbor/streaming.h>

#define SHORT_MAX 23 /* the largest number that a one-byte head holds */
#define LENGTH_MAX 27 /* in the low bits: up to here a number follows */
#define DEPTH_MAX 64

/* ---- heads ------------------------------------------------------------ */

static void set_kind(cbor_head *h, enum cbor_kind kind) {
  h->kind = kind;
}

static void set_float(cbor_head *h, double v) {
  h->kind = CBOR_FLOAT;
  h->f = v;
}

static void on_float(void *h, float v) { set_float(h, (double)v); }

static void on_undefined(void *h) { set_kind(h, CBOR_UNDEFINED); }
static void on_bytes_start(void *h) { set_kind(h, CBOR_BYTES_START); }
static void on_text_start(void *h) { set_kind(h, CBOR_TEXT_START); }
static void on_array_start(void *h) { set_kind(h, CBOR_ARRAY_START); }
static void on_map_start(void *h) { set_kind(h, CBOR_MAP_START); }
static void on_break(void *h) { set_kind(h, CBOR_BREAK); }

static const struct cbor_callbacks callbacks = {
  .byte_string_start = on_bytes_start, .string_start = on_text_start,
  .indef_array_start = on_array_start, .indef_map_start = on_map_start,
  .float2 = on_float, .float4 = on_float, .undefined = on_undefined,
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

/* The number of a plain head, and where what follows it begins: NULL where the
   bytes end before. */
static inline const uint8_t *plain_number(const unpacker *u, uint64_t *v) {
  unsigned low = *u->at & 0x1f;
  const uint8_t *next = u->at + 1;
  *v = low;
  if (low <= SHORT_MAX) return next;
  unsigned bytes = 1u << (low - SHORT_MAX - 1);
  if (bytes > u->end - next) return NULL;
  *v = read_number(next, u->end, bytes);
  return next + bytes;
}

static inline bool read_plain(unpacker *u, cbor_head *h) {
  unsigned first = *u->at;
  const uint8_t *next = plain_number(u, &h->u);
  if (!next) return false;
  h->kind = (enum cbor_kind)(first >> 5);
  if (h->kind == CBOR_BYTES || h->kind == CBOR_TEXT) {
    if (h->u > (uint64_t)(u->end - next)) return false;
    h->bytes = (respool_bytes){next, (size_t)h->u};
    next += h->u;
  }
  u->at = next;
  return true;
}

/* Is it a double? */
static inline bool read_double(unpacker *u, cbor_head *h) {
  uint64_t bits;
  if (*u->at != 0xfb || left(u) <= sizeof bits) return false;
  memcpy(&bits, u->at + 1, sizeof bits);
  bits = be64toh(bits);
  h->kind = CBOR_FLOAT;
  memcpy(&h->f, &bits, sizeof bits);
  u->at += 1 + sizeof bits;
  return true;
}

/* Is it false, true or null? */
static inline bool read_simple(unpacker *u, cbor_head *h) {
  if (*u->at < 0xf4 || *u->at > 0xf6) return false;
  static const enum cbor_kind kinds[] = {CBOR_FALSE, CBOR_TRUE, CBOR_NULL};
  h->kind = kinds[*u->at - 0xf4];
  u->at++;
  return true;
}

bool unpack_head(unpacker *u, cbor_head *h) {
  if (u->rc != 0) return false;
  if (u->at == u->end) return corrupt(u);
  if (is_plain(*u->at)) return read_plain(u, h) || corrupt(u);
  if (read_double(u, h) || read_simple(u, h)) return true;
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

/* The number in the head of an item of a plain kind, as records have many. */
static inline bool expect_plain(unpacker *u, enum cbor_kind kind,
                                uint64_t *v) {
  if (u->rc != 0) return false;
  if (u->at == u->end || !is_plain(*u->at) || *u->at >> 5 != kind)
    return corrupt(u);
  const uint8_t *next = plain_number(u, v);
  if (!next) return corrupt(u);
  u->at = next;
  return true;
}

uint64_t unpack_uint(unpacker *u) {
  uint64_t v;
  return expect_plain(u, CBOR_UINT, &v) ? v : 0;
}

int64_t unpack_int(unpacker *u) {
  uint64_t v;
  bool negative = u->at < u->end && *u->at >> 5 == CBOR_NEGINT;
  if (!expect_plain(u, negative ? CBOR_NEGINT : CBOR_UINT, &v)) return 0;
  if (v > INT64_MAX) {
    corrupt(u);
    return 0;
  }
  return negative ? -1 - (int64_t)v : (int64_t)v;
}

static inline respool_bytes unpack_plain_string(unpacker *u,
                                                enum cbor_kind kind) {
  uint64_t n;
  const uint8_t *start = u->at;
  if (!expect_plain(u, kind, &n)) return (respool_bytes){NULL, 0};
  if (n > left(u)) {
    u->at = start;
    corrupt(u);
    return (respool_bytes){NULL, 0};
  }
  u->at += n;
  return (respool_bytes){u->at - n, (size_t)n};
}

respool_bytes unpack_bytes(unpacker *u) {
  return unpack_plain_string(u, CBOR_BYTES);
}

respool_bytes unpack_text(unpacker *u) {
  return unpack_plain_string(u, CBOR_TEXT);
}

/* A count of elements, if there are bytes for them at `size` each. */
static inline size_t unpack_count(unpacker *u, enum cbor_kind kind,
                                  size_t size) {
  uint64_t n;
  if (!expect_plain(u, kind, &n)) return 0;
  if (n > left(u) / size) {
    corrupt(u);
    return 0;
  }
  return (size_t)n;
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

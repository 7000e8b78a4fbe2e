/* SPDX-License-Identifier: MIT */
/*
 * The packer and the unpacker, as the core uses them: what one writes the
 * other reads, errors stick, and nothing looks beyond the bytes it was
 * given. Inputs lie in blocks of their exact size, so that a sanitizer sees
 * the first byte too many. Prints what does not hold; exits 0 when
 * everything does.
 */
#include "cbor/packer.h"
#include "cbor/unpacker.h"
#include "cbor/utf8.h"
#include "holds.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


/* A block of n bytes that ends where the heap's own bytes begin. */
static uint8_t *block(const void *data, size_t n) {
  uint8_t *b = malloc(n > 0 ? n : 1);
  if (b == NULL) abort();
  if (n > 0) memcpy(b, data, n);
  return b;
}

static bool is_packed(packer *p, const void *data, size_t n) {
  bool same = p->rc == 0 && p->len == n && memcmp(p->data, data, n) == 0;
  packer_reset(p);
  return same;
}

#define PACKED(p, text) is_packed(p, "" text, sizeof text - 1)


/* ---- packing ----------------------------------------------------------- */

static void numbers_take_their_shortest_head(void) {
  packer p;
  packer_init(&p);
  pack_uint(&p, 23);
  pack_uint(&p, 24);
  pack_uint(&p, 255);
  pack_uint(&p, 256);
  HOLDS(PACKED(&p, "\x17\x18\x18\x18\xff\x19\x01\x00"));
  pack_uint(&p, UINT16_MAX);
  pack_uint(&p, UINT32_MAX);
  HOLDS(PACKED(&p, "\x19\xff\xff\x1a\xff\xff\xff\xff"));
  pack_uint(&p, UINT64_MAX);
  HOLDS(PACKED(&p, "\x1b\xff\xff\xff\xff\xff\xff\xff\xff"));
  pack_int(&p, 0);
  pack_int(&p, -1);
  pack_int(&p, -24);
  pack_int(&p, -25);
  HOLDS(PACKED(&p, "\x00\x20\x37\x38\x18"));
  pack_int(&p, INT64_MIN);
  HOLDS(PACKED(&p, "\x3b\x7f\xff\xff\xff\xff\xff\xff\xff"));
  pack_fixed(&p, 1);
  HOLDS(PACKED(&p, "\x1b\x00\x00\x00\x00\x00\x00\x00\x01"));
  packer_free(&p);
}

static void strings_bring_their_bytes(void) {
  packer p;
  packer_init(&p);
  pack_text(&p, "ab", 2);
  pack_bytes(&p, "\x00\xff", 2);
  pack_text(&p, NULL, 0);
  pack_raw(&p, NULL, 0);
  pack_raw(&p, "\xf6", 1);
  HOLDS(PACKED(&p, "\x62" "ab\x42\x00\xff\x60\xf6"));
  pack_string(&p, "plain", 5);
  pack_string(&p, "\xc3\xbc", 2);
  pack_string(&p, "\xc3", 1);
  pack_string(&p, "", 0);
  HOLDS(PACKED(&p, "\x65plain\x62\xc3\xbc\x41\xc3\x60"));
  pack_string(&p, "four and twenty letters.", 24);
  HOLDS(PACKED(&p, "\x78\x18" "four and twenty letters."));
  packer_free(&p);
}

static void a_map_may_be_counted_last(void) {
  static const size_t counts[] = {0, 1, 23, 24, 255, 256, 65536};
  for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
    packer p, q;
    packer_init(&p);
    packer_init(&q);
    pack_null(&p);
    pack_null(&q);
    size_t at = pack_map_open(&p);
    pack_map(&q, counts[i]);
    for (size_t k = 0; k < counts[i]; k++) {
      pack_uint(&p, k), pack_bool(&p, true);
      pack_uint(&q, k), pack_bool(&q, true);
    }
    pack_map_close(&p, at, counts[i]);
    HOLDS(is_packed(&p, q.data, q.len));
    packer_free(&p);
    packer_free(&q);
  }
}

static uint64_t bits(double v) {
  uint64_t b;
  memcpy(&b, &v, sizeof b);
  return b;
}

/* Each half there is, read by libcbor, must pack into itself. */
static void every_half_stays_itself(void) {
  packer p;
  packer_init(&p);
  for (unsigned i = 0; i < 0x10000; i++) {
    uint8_t half[] = {0xf9, (uint8_t)(i >> 8), (uint8_t)i};
    unpacker u;
    unpacker_init(&u, half, sizeof half);
    double v = unpack_double(&u);
    pack_double(&p, v);
    HOLDS(isnan(v) ? PACKED(&p, "\xf9\x7e\x00") : is_packed(&p, half, 3));
  }
  packer_free(&p);
}

static void a_float_takes_the_least_bytes_that_keep_it(void) {
  static const struct { double v; size_t size; } cases[] = {
    {0, 3}, {-0.0, 3}, {1.5, 3}, {65504, 3}, {65505, 5}, {65536, 5},
    {0x1p-24, 3}, {0x1p-25, 5}, {0x1.8p-24, 5}, {0x1.ffcp-15, 5},
    {0x1.ff8p-15, 3}, {0x1.fffffep127, 5}, {0x1.ffffffp127, 9},
    {0x1p128, 9}, {0x1p-149, 5}, {0x1p-150, 9}, {0.1, 9}, {1e300, 9},
    {INFINITY, 3}, {-INFINITY, 3}, {5e-324, 9}
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    packer p;
    unpacker u;
    packer_init(&p);
    pack_double(&p, cases[i].v);
    HOLDS(p.len == cases[i].size);
    unpacker_init(&u, p.data, p.len);
    HOLDS(bits(unpack_double(&u)) == bits(cases[i].v));
    packer_free(&p);
  }
}

static void a_packer_out_of_memory_stays_so(void) {
  packer p;
  packer_init(&p);
  pack_uint(&p, 1);
  HOLDS(packer_grow(&p, SIZE_MAX / 2) == NULL);
  HOLDS(p.rc == RESPOOL_NOMEM);
  pack_uint(&p, 2);
  pack_string(&p, "a", 1);
  pack_double(&p, 0.1);
  pack_map_close(&p, pack_map_open(&p), 100);
  HOLDS(packer_grow(&p, 0) == NULL);
  HOLDS(p.rc == RESPOOL_NOMEM && p.len == 1);
  packer_reset(&p);
  pack_uint(&p, 2);
  HOLDS(PACKED(&p, "\x02"));
  packer_free(&p);
  packer_free(&p);
}


/* ---- unpacking --------------------------------------------------------- */

static void what_was_packed_comes_back(void) {
  packer p;
  unpacker u;
  packer_init(&p);
  pack_array(&p, 3);
  pack_map(&p, 1);
  pack_text(&p, "key", 3);
  pack_bytes(&p, "value", 5);
  pack_int(&p, INT64_MIN);
  pack_uint(&p, UINT64_MAX);
  pack_bool(&p, true);
  pack_null(&p);
  unpacker_init(&u, p.data, p.len);
  HOLDS(unpack_array(&u) == 3);
  HOLDS(unpack_map(&u) == 1);
  HOLDS(memcmp(unpack_text(&u).data, "key", 3) == 0);
  HOLDS(unpack_bytes(&u).size == 5);
  HOLDS(unpack_int(&u) == INT64_MIN);
  HOLDS(unpack_uint(&u) == UINT64_MAX);
  HOLDS(!unpack_null(&u) && u.rc == 0);
  HOLDS(unpack_bool(&u));
  HOLDS(unpack_peek(&u) == CBOR_NULL);
  HOLDS(unpack_null(&u) && u.at == u.end && u.rc == 0);
  HOLDS(unpack_peek(&u) == CBOR_BREAK && u.rc == 0);
  packer_free(&p);
}

/* Reads with each reader what is none of its kind; the 1 that may follow
   must not be read any more. */
static void another_kind_is_an_error_that_sticks(void) {
#define REFUSED(call, text) do { \
    unpacker u; \
    uint8_t *b = block(text, sizeof text - 1); \
    unpacker_init(&u, b, sizeof text - 1); \
    (void)call(&u); \
    HOLDS(u.rc == RESPOOL_CORRUPT); \
    HOLDS(unpack_uint(&u) == 0 && u.rc == RESPOOL_CORRUPT); \
    free(b); \
  } while (0)
  REFUSED(unpack_uint, "\x20\x01");
  REFUSED(unpack_int, "\x60\x01");
  REFUSED(unpack_int, "\x1b\x80\x00\x00\x00\x00\x00\x00\x00\x01");
  REFUSED(unpack_int, "\x3b\x80\x00\x00\x00\x00\x00\x00\x00\x01");
  REFUSED(unpack_bytes, "\x60\x01");
  REFUSED(unpack_bytes, "\x5f\x40\xff\x01");
  REFUSED(unpack_text, "\x40\x01");
  REFUSED(unpack_double, "\x01\x01");
  REFUSED(unpack_bool, "\xf6\x01");
  REFUSED(unpack_array, "\xa0\x01");
  REFUSED(unpack_map, "\x80\x01");
  REFUSED(unpack_skip, "\xff\x01");
}

static void a_length_beyond_the_end_is_an_error(void) {
  REFUSED(unpack_array, "\x82\x00");
  REFUSED(unpack_map, "\xa1\x00");
  REFUSED(unpack_array, "\x9b\xff\xff\xff\xff\xff\xff\xff\xff");
  REFUSED(unpack_map, "\xbb\x80\x00\x00\x00\x00\x00\x00\x01\x00\x00");
  REFUSED(unpack_bytes, "\x43\x00\x00");
  REFUSED(unpack_bytes, "\x5b\x7f\xff\xff\xff\xff\xff\xff\xff\x00");
  REFUSED(unpack_text, "\x7b\xff\xff\xff\xff\xff\xff\xff\xf6\x00");
  REFUSED(unpack_skip, "\xbb\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00");
#undef REFUSED
}

static void an_error_set_from_outside_stops_it(void) {
  unpacker u;
  unpacker_init(&u, "\x01\x01", 2);
  HOLDS(unpack_uint(&u) == 1);
  u.rc = RESPOOL_CORRUPT;
  HOLDS(unpack_uint(&u) == 0);
  HOLDS(unpack_skip(&u).size == 0);
  HOLDS(unpack_peek(&u) == CBOR_BREAK);
}

static void tags_of_any_number_are_read(void) {
  for (unsigned tag = 0; tag < 256; tag++) {
    uint8_t text[] = {0xd8, (uint8_t)tag}, *b = block(text, sizeof text);
    cbor_head h;
    unpacker u;
    if (tag < 24) b[0] = (uint8_t)(0xc0 | tag);
    unpacker_init(&u, b, tag < 24 ? 1 : 2);
    HOLDS(unpack_head(&u, &h) && h.kind == CBOR_TAG && h.u == tag);
    HOLDS(u.at == u.end);
    free(b);
  }
}


/* ---- skipping ---------------------------------------------------------- */

/* Whether the n bytes are one item that is skipped to its end. */
static bool is_one_item(const void *data, size_t n) {
  uint8_t *b = block(data, n);
  unpacker u;
  unpacker_init(&u, b, n);
  respool_bytes item = unpack_skip(&u);
  bool whole = u.rc == 0 && item.data == b && item.size == n;
  bool none = u.rc == RESPOOL_CORRUPT && item.size == 0;
  if (!none && !whole) HOLDS(u.rc == 0 && item.size < n);
  free(b);
  return whole;
}

#define ONE_ITEM(text) is_one_item(text, sizeof text - 1)

static void one_item_is_skipped_whole(void) {
  HOLDS(ONE_ITEM("\x00"));
  HOLDS(ONE_ITEM("\x83\x01\x82\x02\x03\x43" "abc"));
  HOLDS(ONE_ITEM("\xa1\x61" "a\x9f\x01\xa0\xff"));
  HOLDS(ONE_ITEM("\xbf\x00\x01\x02\x9f\xff\xff"));
  HOLDS(ONE_ITEM("\x5f\x42" "ab\x40\xff"));
  HOLDS(ONE_ITEM("\xc6\xd8\x20\x60"));
  HOLDS(!ONE_ITEM("\xbf\x00\xff"));
  HOLDS(!ONE_ITEM("\x5f\x61" "a\xff"));
  HOLDS(!ONE_ITEM("\x00\x00"));
  HOLDS(!ONE_ITEM(""));
}

static void a_prefix_of_an_item_is_none(void) {
  static const char item[] = "\xa2\x61" "a\x9f\x01\xf9\x7c\x00\xff\x7f\x62"
    "bc\x60\xff\xc2\x49\x01\x00\x00\x00\x00\x00\x00\x00\x00";
  HOLDS(ONE_ITEM(item));
  for (size_t n = 0; n < sizeof item - 1; n++) HOLDS(!is_one_item(item, n));
}

static void nesting_ends_at_64(void) {
  static const char *opens[] = {"\x81", "\x9f", "\xa1\x00", "\xbf\x00"};
  for (size_t k = 0; k < 4; k++)
    for (int depth = 64; depth <= 65; depth++) {
      packer p;
      size_t size = k < 2 ? 1 : 2;
      packer_init(&p);
      for (int i = 0; i < depth; i++) pack_raw(&p, opens[k], size);
      pack_uint(&p, 0);
      for (int i = 0; i < depth && k % 2 == 1; i++) pack_raw(&p, "\xff", 1);
      HOLDS(is_one_item(p.data, p.len) == (depth == 64));
      packer_free(&p);
    }
}


/* ---- UTF-8 ------------------------------------------------------------- */

static bool is_utf8(const char *s, size_t n) {
  uint8_t *b = block(s, n);
  bool valid = utf8_valid(b, n);
  free(b);
  return valid;
}

/* The code point in as many bytes as asked for, overlong if need be. */
static size_t spell(uint32_t c, size_t size, char *s) {
  static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0, 0xf8};
  for (size_t i = size; i-- > 1; c >>= 6) s[i] = (char)(0x80 | (c & 0x3f));
  s[0] = (char)(lead[size] | c);
  return size;
}

static void each_code_point_has_one_spelling(void) {
  char s[8];
  for (uint32_t c = 0x80; c < 0x200000; c += c < 0x11000 ? 1 : 61) {
    size_t size = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    bool exists = c <= 0x10ffff && (c < 0xd800 || c > 0xdfff);
    HOLDS(is_utf8(s, spell(c, size, s)) == exists);
    if (size < 4) HOLDS(!is_utf8(s, spell(c, size + 1, s)));
  }
  for (uint32_t c = 0; c < 0x80; c++) {
    s[0] = (char)c;
    HOLDS(is_utf8(s, 1));
    HOLDS(!is_utf8(s, spell(c, 2, s)));
  }
}

static void a_sequence_goes_on_to_its_end(void) {
  static const char *whole[] = {"\xc3\xbc", "\xe2\x82\xac",
                                "\xf0\x9f\x98\x80"};
  for (size_t k = 0; k < 3; k++)
    for (size_t at = 1; at < k + 2; at++) {
      char s[4];
      memcpy(s, whole[k], k + 2);
      HOLDS(is_utf8(s, k + 2));
      HOLDS(!is_utf8(s, at));
      s[at] = 'a';
      HOLDS(!is_utf8(s, k + 2));
      s[at] = (char)0xc0;
      HOLDS(!is_utf8(s, k + 2));
    }
}

/* A fault anywhere in a text of any length, past whatever reads words. */
static void a_fault_is_found_wherever_it_lies(void) {
  char s[40];
  for (size_t n = 1; n < sizeof s; n++)
    for (size_t at = 0; at < n; at++) {
      memset(s, 'a', sizeof s);
      HOLDS(is_utf8(s, n));
      s[at] = (char)0x80;
      HOLDS(!is_utf8(s, n));
      s[at] = (char)0xc3;
      HOLDS(!is_utf8(s, n));
      s[at + 1 < n ? at + 1 : at] = (char)0xbc;
      HOLDS(is_utf8(s, n) == (at + 1 < n));
    }
  HOLDS(utf8_valid(NULL, 0));
}

int main(void) {
  CHECK(numbers_take_their_shortest_head());
  CHECK(strings_bring_their_bytes());
  CHECK(a_map_may_be_counted_last());
  CHECK(every_half_stays_itself());
  CHECK(a_float_takes_the_least_bytes_that_keep_it());
  CHECK(a_packer_out_of_memory_stays_so());
  CHECK(what_was_packed_comes_back());
  CHECK(another_kind_is_an_error_that_sticks());
  CHECK(a_length_beyond_the_end_is_an_error());
  CHECK(an_error_set_from_outside_stops_it());
  CHECK(tags_of_any_number_are_read());
  CHECK(one_item_is_skipped_whole());
  CHECK(a_prefix_of_an_item_is_none());
  CHECK(nesting_ends_at_64());
  CHECK(each_code_point_has_one_spelling());
  CHECK(a_sequence_goes_on_to_its_end());
  CHECK(a_fault_is_found_wherever_it_lies());
  return exit_status();
}

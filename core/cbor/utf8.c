/* SPDX-License-Identifier: MIT */
/*
 * Validation of UTF-8; see utf8.h. Most text is ASCII, which is found out by
 * the word.
 */
#include "cbor/utf8.h"

#include <string.h>

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

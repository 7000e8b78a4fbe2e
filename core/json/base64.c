/* SPDX-License-Identifier: MIT */
/*
 * Base64; see base64.h.
 */
#include "json/base64.h"

#include <string.h>

static const char DIGITS[] =
  "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Four digits of one to three bytes. */
static void write_group(const uint8_t *s, size_t n, uint8_t *to) {
  uint32_t b = (uint32_t)s[0] << 16;
  if (n > 1) b |= (uint32_t)s[1] << 8;
  if (n > 2) b |= s[2];
  to[0] = (uint8_t)DIGITS[b >> 18];
  to[1] = (uint8_t)DIGITS[b >> 12 & 63];
  to[2] = n > 1 ? (uint8_t)DIGITS[b >> 6 & 63] : '=';
  to[3] = n > 2 ? (uint8_t)DIGITS[b & 63] : '=';
}

void base64_write(const void *bytes, size_t n, packer *out) {
  const uint8_t *s = bytes;
  uint8_t *to = packer_grow(out, (n + 2) / 3 * 4);
  for (size_t i = 0; to && i < n; i += 3, to += 4)
    write_group(s + i, n - i < 3 ? n - i : 3, to);
}

/* 0 to 63; 64 of anything else. */
static uint32_t value_of(char c) {
  const char *at = c ? strchr(DIGITS, c) : NULL;
  return at ? (uint32_t)(at - DIGITS) : 64;
}

bool base64_read(const char *text, size_t n, packer *out) {
  size_t pad = 0;
  while (pad < 2 && pad < n && text[n - pad - 1] == '=') pad++;
  if (n % 4) return false;
  uint32_t b = 0;
  for (size_t i = 0; i < n; i++) {
    uint32_t v = i < n - pad ? value_of(text[i]) : 0;
    if (v > 63) return false;
    b = b << 6 | v;
    if (i % 4 < 3) continue;
    size_t have = i + 1 == n ? 3 - pad : 3;
    uint8_t three[3] = {(uint8_t)(b >> 16), (uint8_t)(b >> 8), (uint8_t)b};
    for (size_t k = have; k < 3; k++)
      if (three[k]) return false; /* bits that no byte has */
    pack_raw(out, three, have);
    b = 0;
  }
  return out->rc == 0;
}

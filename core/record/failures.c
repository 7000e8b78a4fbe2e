/* SPDX-License-Identifier: MIT */
/*
 * The bounded list of failures that a claim carries from attempt to attempt
 * and a dead letter keeps. Invariant: kept[0] is the first failure, the others
 * are the last ones in order.
 */
#include "record/failures.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cbor/utf8.h"

/* ---- texts -------------------------------------------------------------- */

respool_bytes phrase_of(const char *s) {
  return (respool_bytes){s, s ? strlen(s) : 0};
}

bool phrase_same(respool_bytes a, respool_bytes b) {
  return a.size == b.size && (!a.size || !memcmp(a.data, b.data, a.size));
}

bool phrase_is(respool_bytes s, const char *other) {
  return phrase_same(s, phrase_of(other));
}

respool_bytes phrase_cut(respool_bytes s, size_t max) {
  if (s.size <= max) return s;
  const unsigned char *p = s.data;
  size_t n = max;
  while (n > max - 4 && (p[n] & 0xc0) == 0x80) n--; /* within a sequence? */
  return (respool_bytes){s.data, n};
}

void pack_phrase(packer *p, respool_bytes s) {
  if (!s.size)
    pack_null(p);
  else if (utf8_valid(s.data, s.size))
    pack_text(p, s.data, s.size);
  else
    pack_bytes(p, s.data, s.size);
}

void pack_finding(packer *p, const char *fmt, ...) {
  char text[FINDING_TEXT + 2]; /* what is cut shows one byte more */
  va_list args;
  va_start(args, fmt);
  int n = vsnprintf(text, sizeof text, fmt, args);
  va_end(args);
  if (n >= 0) pack_phrase(p, phrase_cut(phrase_of(text), FINDING_TEXT));
}

respool_bytes unpack_phrase(unpacker *u) {
  if (unpack_null(u)) return (respool_bytes){NULL, 0};
  return unpack_peek(u) == CBOR_BYTES ? unpack_bytes(u) : unpack_text(u);
}

/* ---- the list ----------------------------------------------------------- */

static void failure_pack(packer *p, const respool_failure *f) {
  pack_array(p, 4);
  pack_int(p, f->at);
  pack_phrase(p, phrase_cut(f->error, FAILURE_TEXT));
  pack_phrase(p, phrase_cut(f->group, FAILURE_TEXT));
  pack_phrase(p, phrase_cut(f->trace, FAILURE_TEXT));
}

static void failure_unpack(unpacker *u, respool_failure *f) {
  if (unpack_array(u) != 4) u->rc = RESPOOL_CORRUPT;
  f->at = unpack_int(u);
  f->error = unpack_phrase(u);
  f->group = unpack_phrase(u);
  f->trace = unpack_phrase(u);
}

bool failures_read(respool_bytes packed, failure_list *h) {
  h->count = h->n = 0;
  if (!packed.size) return true;
  unpacker u;
  unpacker_init(&u, packed.data, packed.size);
  if (unpack_array(&u) != 2) return false;
  h->count = unpack_uint(&u);
  size_t n = unpack_array(&u);
  if (u.rc || n > FAILURES_MAX) return false;
  for (size_t i = 0; i < n; i++) failure_unpack(&u, &h->kept[i]);
  h->n = n;
  return u.rc == 0;
}

int64_t failures_first(respool_bytes packed) {
  unpacker u;
  if (!packed.size) return 0;
  unpacker_init(&u, packed.data, packed.size);
  unpack_array(&u);
  unpack_uint(&u);
  if (!unpack_array(&u) || u.rc) return 0;
  unpack_array(&u);
  int64_t at = unpack_int(&u);
  return u.rc ? 0 : at;
}

void failures_add(packer *p, respool_bytes old, const respool_failure *f) {
  failure_list h;
  if (!failures_read(old, &h)) h.count = h.n = 0;
  if (h.n == FAILURES_MAX) { /* the oldest of the last ones goes */
    memmove(&h.kept[FAILURES_FIRST], &h.kept[FAILURES_FIRST + 1],
            (FAILURES_LAST - 1) * sizeof h.kept[0]);
    h.n--;
  }
  h.kept[h.n++] = *f;
  pack_array(p, 2);
  pack_uint(p, h.count + 1);
  pack_array(p, h.n);
  for (size_t i = 0; i < h.n; i++) failure_pack(p, &h.kept[i]);
}

respool_bytes failures_error(respool_bytes packed) {
  failure_list h;
  if (!failures_read(packed, &h) || !h.n) return (respool_bytes){NULL, 0};
  return h.kept[h.n - 1].error;
}

/* SPDX-License-Identifier: MIT */
/*
 * The failures of an item, bounded: the first and the last few whole, the
 * others counted. Packed it is one CBOR array,
 *
 *   [count, [[at, error, group, trace], ...]]
 *
 * whose texts are cut to HISTORY_TEXT bytes; group and trace may be null.
 * A text that is not UTF-8 is stored as bytes.
 */
#ifndef HISTORY_H
#define HISTORY_H

#include "base/cbor.h"

#define HISTORY_TEXT 1024
#define HISTORY_FIRST 1
#define HISTORY_LAST 3
#define HISTORY_MAX (HISTORY_FIRST + HISTORY_LAST)

typedef struct history {
  uint64_t count; /* all that happened */
  size_t n;       /* of these, kept */
  respool_failure kept[HISTORY_MAX];
} history;

/* Empty bytes read as no failures; false when damaged. */
bool history_read(respool_bytes packed, history *h);

/* When the first of them was; 0: there is none. */
int64_t history_first(respool_bytes packed);

/* `old` with `f` added, appended to `p`. Damaged bytes start afresh. */
void history_add(packer *p, respool_bytes old, const respool_failure *f);

/* The error of the last failure; empty when there was none. */
respool_bytes history_error(respool_bytes packed);

/* A text, or bytes where it is not UTF-8, or null where empty. */
void pack_phrase(packer *p, respool_bytes s);
respool_bytes unpack_phrase(unpacker *u);

/* `s` cut to `max` bytes, not within a UTF-8 sequence. */
respool_bytes phrase_cut(respool_bytes s, size_t max);

/* From C strings and back; NULL is empty. */
respool_bytes phrase_of(const char *s);
bool phrase_is(respool_bytes s, const char *other);
bool phrase_same(respool_bytes a, respool_bytes b);

#endif

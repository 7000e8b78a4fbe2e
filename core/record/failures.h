/* SPDX-License-Identifier: MIT */
/*
 * The failures of an item, bounded: the first and the last few are kept, the
 * others counted. Packed they are one CBOR array,
 *
 *   [count, [[at, error, group, trace], ...]]
 *
 * whose texts are cut to FAILURE_TEXT bytes; group and trace may be null.
 * A text that is not UTF-8 is stored as bytes.
 */
#ifndef FAILURES_H
#define FAILURES_H

#include "cbor/packer.h"
#include "cbor/unpacker.h"

#define FAILURE_TEXT 1024
#define FINDING_TEXT 512
#define FAILURES_FIRST 1
#define FAILURES_LAST 3
#define FAILURES_MAX (FAILURES_FIRST + FAILURES_LAST)

typedef struct failure_list {
  uint64_t count; /* of all failures */
  size_t n;       /* kept */
  respool_failure kept[FAILURES_MAX];
} failure_list;

/* Empty bytes read as no failures; false when damaged. */
bool failures_read(respool_bytes packed, failure_list *h);

/* The time of the first failure; 0: there is none. */
int64_t failures_first(respool_bytes packed);

/* Packs the failures `old` and `f` into `p`. Damaged `old` counts as none. */
void failures_add(packer *p, respool_bytes old, const respool_failure *f);

/* The error of the last failure; empty when there was none. */
respool_bytes failures_error(respool_bytes packed);

/* A text, or bytes where it is not UTF-8, or null where empty. */
void pack_phrase(packer *p, respool_bytes s);
respool_bytes unpack_phrase(unpacker *u);

/* A finding of a check: a line of text, cut where it is too long. */
__attribute__((format(printf, 2, 3)))
void pack_finding(packer *p, const char *fmt, ...);

/* `s` cut to `max` bytes, not within a UTF-8 sequence. */
respool_bytes phrase_cut(respool_bytes s, size_t max);

/* From C strings and back; NULL is empty. */
respool_bytes phrase_of(const char *s);
bool phrase_is(respool_bytes s, const char *other);
bool phrase_same(respool_bytes a, respool_bytes b);

#endif

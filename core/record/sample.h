/* SPDX-License-Identifier: MIT */
/*
 * A sample: the figures of all queues of a store at one moment, kept so that
 * their course can be shown later. It is stored as what differs from another
 * sample, its base, which makes it short.
 *
 *   stored = at, base, [name, [i, difference, ...]], ...
 *
 * `at` is in milliseconds since 1970, `base` that of the base (0: none), `i`
 * the place of a figure below. A queue that is as in the base is left out; one
 * that is not there counts from 0.
 */
#ifndef SAMPLE_H
#define SAMPLE_H

#include "cbor/packer.h"
#include "cbor/unpacker.h"

/* Counts, which rise while a queue lives. */
#define SAMPLE_COUNTS(X) \
  X(pushed) X(delivered) X(done) X(retried) X(crashed) X(died) X(expired) \
  X(removed)

/* Counts of the present moment. */
#define SAMPLE_LEVELS(X) \
  X(ready) X(leased) X(scheduled) X(retrying) X(dead) X(bytes) X(oldest)

enum {
#define PLACE(name) SAMPLE_##name,
  SAMPLE_COUNTS(PLACE) SAMPLE_LEVELS(PLACE)
#undef PLACE
  SAMPLE_wait, /* each histogram: its count, its sum, its buckets */
  SAMPLE_handle = SAMPLE_wait + 2 + RESPOOL_BUCKETS,
  SAMPLE_FIGURES = SAMPLE_handle + 2 + RESPOOL_BUCKETS
};

typedef struct sampled {
  char name[RESPOOL_NAME_MAX + 1];
  int64_t n[SAMPLE_FIGURES];
} sampled;

/* Queues in the order of their names' bytes; owned. */
typedef struct sample {
  int64_t at; /* 0: there is none */
  sampled *list;
  size_t n, room;
} sample;

void sample_free(sample *s);

/* Adds a queue; NOMEM. All are to be added before sample_sort and any use. */
int sample_add(sample *s, const char *name, const respool_queue_stats *stats);
void sample_sort(sample *s);

/* The queue of this name; NULL: it has none. */
const sampled *sample_find(const sample *s, const char *name);

/* Of the difference of two samples of a queue, `before` NULL or of a queue that
   was dropped since: it begins at 0. */
respool_trend sample_trend(const sampled *before, const sampled *now);

/* Packs what differs from `base`, queues until `limit` bytes are full. */
void sample_pack(packer *p, const sample *s, const sample *base, size_t limit);

/* A copy into `to`, which is empty; of all queues or, with `only`, of one. */
int sample_copy(const sample *s, const char *only, sample *to);

/* Reads a stored sample upon its base into `s`, which is empty; of all queues
   or, with `only`, of one. NOMEM; CORRUPT, also where that is not its base: it
   stays empty. */
int sample_unpack(respool_bytes stored, const sample *base, const char *only,
                  sample *s);

/* When a stored sample was taken; 0 where it cannot be read. */
int64_t sample_at(respool_bytes stored);

#endif

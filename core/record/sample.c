/* SPDX-License-Identifier: MIT */
#include "record/sample.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "record/fields.h"

void sample_free(sample *s) {
  free(s->list);
  memset(s, 0, sizeof *s);
}

/* Room for one more, with all figures 0; NULL: there is no memory. */
static sampled *grow(sample *s) {
  if (s->n == s->room) {
    size_t room = s->room ? 2 * s->room : 16;
    sampled *list = realloc(s->list, room * sizeof *list);
    if (!list) return NULL;
    s->list = list;
    s->room = room;
  }
  return memset(&s->list[s->n++], 0, sizeof *s->list);
}

static int no_memory(void) {
  return fail(RESPOOL_NOMEM, "not enough memory for a sample");
}

static void put_histogram(int64_t *n, const respool_histogram *h) {
  n[0] = (int64_t)h->count;
  n[1] = (int64_t)h->sum;
  for (int i = 0; i < RESPOOL_BUCKETS; i++) n[2 + i] = (int64_t)h->buckets[i];
}

int sample_add(sample *s, const char *name, const respool_queue_stats *stats) {
  sampled *q = grow(s);
  if (!q) return no_memory();
  strncpy(q->name, name, RESPOOL_NAME_MAX);
#define PUT(figure) q->n[SAMPLE_##figure] = (int64_t)stats->figure;
  SAMPLE_COUNTS(PUT)
  SAMPLE_LEVELS(PUT)
#undef PUT
  put_histogram(q->n + SAMPLE_wait, &stats->wait);
  put_histogram(q->n + SAMPLE_handle, &stats->handle);
  return 0;
}

static int by_name(const void *a, const void *b) {
  return strcmp(((const sampled *)a)->name, ((const sampled *)b)->name);
}

void sample_sort(sample *s) {
  if (s->n) qsort(s->list, s->n, sizeof *s->list, by_name);
}

static int by_name_alone(const void *name, const void *q) {
  return strcmp(name, ((const sampled *)q)->name);
}

const sampled *sample_find(const sample *s, const char *name) {
  return s->n ? bsearch(name, s->list, s->n, sizeof *s->list, by_name_alone)
              : NULL;
}

/* ---- what became of a queue between two samples -------------------------- */

static uint64_t risen(const sampled *before, const sampled *now, int i) {
  return (uint64_t)(now->n[i] - (before ? before->n[i] : 0));
}

static respool_histogram histogram_risen(const sampled *before,
                                         const sampled *now, int at) {
  respool_histogram h;
  h.count = risen(before, now, at);
  h.sum = risen(before, now, at + 1);
  for (int i = 0; i < RESPOOL_BUCKETS; i++)
    h.buckets[i] = risen(before, now, at + 2 + i);
  return h;
}

static bool fell(const sampled *before, const sampled *now) {
  bool any = false;
#define FELL(count) \
  any |= now->n[SAMPLE_##count] < before->n[SAMPLE_##count];
  SAMPLE_COUNTS(FELL)
#undef FELL
  return any;
}

respool_trend sample_trend(const sampled *before, const sampled *now) {
  respool_trend t = RESPOOL_TREND_INIT;
  if (before && fell(before, now)) before = NULL; /* it was made anew */
#define COUNT(figure) t.figure = risen(before, now, SAMPLE_##figure);
#define LEVEL(figure) t.figure = (uint64_t)now->n[SAMPLE_##figure];
  SAMPLE_COUNTS(COUNT)
  LEVEL(ready) LEVEL(leased) LEVEL(scheduled) LEVEL(retrying) LEVEL(dead)
  LEVEL(bytes)
#undef COUNT
#undef LEVEL
  t.oldest = now->n[SAMPLE_oldest];
  t.wait = histogram_risen(before, now, SAMPLE_wait);
  t.handle = histogram_risen(before, now, SAMPLE_handle);
  return t;
}

/* ---- stored -------------------------------------------------------------- */

static void pack_queue(packer *p, const sampled *q, const sampled *base) {
  static const sampled none;
  size_t differ = 0;
  if (!base) base = &none;
  for (int i = 0; i < SAMPLE_FIGURES; i++) differ += q->n[i] != base->n[i];
  if (!differ) return;
  pack_array(p, 2);
  pack_phrase(p, phrase_of(q->name));
  pack_array(p, 2 * differ);
  for (int i = 0; i < SAMPLE_FIGURES; i++) {
    if (q->n[i] == base->n[i]) continue;
    pack_int(p, i);
    pack_int(p, q->n[i] - base->n[i]);
  }
}

void sample_pack(packer *p, const sample *s, const sample *base,
                 size_t limit) {
  pack_int(p, s->at);
  pack_int(p, base->at);
  for (size_t i = 0; i < s->n && p->len < limit; i++)
    pack_queue(p, &s->list[i], sample_find(base, s->list[i].name));
}

int64_t sample_at(respool_bytes stored) {
  unpacker u;
  unpacker_init(&u, stored.data, stored.size);
  int64_t at = unpack_int(&u);
  return u.rc ? 0 : at;
}

int sample_copy(const sample *s, const char *only, sample *to) {
  to->at = s->at;
  for (size_t i = 0; i < s->n; i++) {
    if (only && strcmp(s->list[i].name, only) != 0) continue;
    sampled *q = grow(to);
    if (!q) return no_memory();
    *q = s->list[i];
  }
  return 0;
}

static void read_differences(unpacker *u, sampled *q) {
  size_t pairs = unpack_array(u) / 2;
  while (pairs-- > 0 && !u->rc) {
    int64_t i = unpack_int(u), d = unpack_int(u);
    if (i < 0 || i >= SAMPLE_FIGURES) u->rc = RESPOOL_CORRUPT;
    else if (q) q->n[i] = (int64_t)((uint64_t)q->n[i] + (uint64_t)d);
  }
}

/* One queue of the stored ones; those that the base lacks come behind its `n`,
   which are sorted. */
static int read_queue(unpacker *u, sample *s, size_t n, const char *only) {
  sample based = {.list = s->list, .n = n};
  sampled *q = NULL;
  char name[RESPOOL_NAME_MAX + 1];
  if (unpack_array(u) != 2) u->rc = RESPOOL_CORRUPT;
  unpack_name(u, name);
  if (u->rc) return 0;
  if (!only || strcmp(name, only) == 0) {
    q = (sampled *)sample_find(&based, name);
    if (!q && !(q = grow(s))) return no_memory();
    memcpy(q->name, name, strlen(name));
  }
  read_differences(u, q);
  return 0;
}

int sample_unpack(respool_bytes stored, const sample *base, const char *only,
                  sample *s) {
  unpacker u;
  int rc = sample_copy(base, only, s);
  size_t n = s->n;
  unpacker_init(&u, stored.data, stored.size);
  s->at = unpack_int(&u);
  if (unpack_int(&u) != base->at) u.rc = RESPOOL_CORRUPT;
  while (!rc && !u.rc && u.at < u.end) rc = read_queue(&u, s, n, only);
  if (!rc && u.rc) rc = fail(RESPOOL_CORRUPT, "a sample is damaged");
  if (rc) sample_free(s);
  else sample_sort(s);
  return rc;
}

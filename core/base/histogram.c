/* SPDX-License-Identifier: MIT */
/*
 * Histograms with fixed bounds, each twice the one before: of durations, and of
 * counts.
 */
#include "base/histogram.h"

#include <stddef.h>

#define LEAST 250 /* microseconds */

uint64_t respool_bucket_bound(int i) {
  return i >= 0 && i < RESPOOL_BUCKETS - 1 ? (uint64_t)LEAST << i : UINT64_MAX;
}

uint64_t respool_count_bound(int i) {
  return i >= 0 && i < RESPOOL_BUCKETS - 1 ? UINT64_C(1) << i : UINT64_MAX;
}

static void add(respool_histogram *h, uint64_t (*bound)(int), uint64_t v,
                uint64_t times) {
  int i = 0;
  while (v > bound(i)) i++;
  h->buckets[i] += times;
  h->count += times;
  h->sum += v * times;
}

void histogram_add(respool_histogram *h, uint64_t us, uint64_t n) {
  add(h, respool_bucket_bound, us, n);
}

void histogram_count(respool_histogram *h, uint64_t n) {
  add(h, respool_count_bound, n, 1);
}

void histogram_merge(respool_histogram *to, const respool_histogram *from) {
  for (int i = 0; i < RESPOOL_BUCKETS; i++) to->buckets[i] += from->buckets[i];
  to->count += from->count;
  to->sum += from->sum;
}

int64_t respool_quantile(const respool_histogram *h, double share) {
  double rank = share * (double)h->count, below = 0;
  if (h->count == 0) return -1;
  for (int i = 0; i < RESPOOL_BUCKETS - 1; i++) {
    double n = (double)h->buckets[i];
    double low = i ? (double)respool_bucket_bound(i - 1) : 0;
    double high = (double)respool_bucket_bound(i);
    if (n > 0 && below + n >= rank)
      return (int64_t)(low + (high - low) * (rank - below) / n);
    below += n;
  }
  return (int64_t)respool_bucket_bound(RESPOOL_BUCKETS - 2); /* or more */
}

const char *respool_death_name(int death) {
  switch (death) {
#define NAME(name, number, text) case number: return text;
    RESPOOL_REASONS(NAME)
#undef NAME
    default: return NULL;
  }
}

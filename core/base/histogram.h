/* SPDX-License-Identifier: MIT */
/*
 * Histograms of durations and of counts, and the names of counters.
 */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H

#include "respool.h"

/* Adds `n` times the same duration. */
void histogram_add(respool_histogram *h, uint64_t us, uint64_t n);
void histogram_count(respool_histogram *h, uint64_t n);
void histogram_merge(respool_histogram *to, const respool_histogram *from);

#endif

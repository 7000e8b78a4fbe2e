/* SPDX-License-Identifier: MIT */
/*
 * Random numbers for jitter: a seeded sequence, shared by any number of
 * threads. The same seed gives the same sequence. Not for secrets.
 */
#ifndef RANDOM_H
#define RANDOM_H

#include <stdatomic.h>
#include <stdint.h>

struct random {
  _Atomic uint64_t state;
};

/* Seed 0 asks the system for one. */
void random_init(struct random *r, uint64_t seed);

/* The next number in [0, 1). */
double random_next(struct random *r);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * SplitMix64: G. Steele, D. Lea, C. Flood, "Fast Splittable Pseudorandom
 * Number Generators", OOPSLA 2014; constants as in S. Vigna's public-domain
 * splitmix64.c. Its state only counts, so one atomic addition shares it.
 */
#include "base/random.h"

#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"

#define GAMMA UINT64_C(0x9e3779b97f4a7c15)

static uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return z ^ (z >> 31);
}

static uint64_t system_seed(void) {
  uint64_t seed;
  if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) == (ssize_t)sizeof seed)
    return seed;
  return mix((uint64_t)clock_mono()) ^ (uint64_t)getpid(); /* early boot */
}

void random_init(struct random *r, uint64_t seed) {
  atomic_init(&r->state, seed ? seed : system_seed());
}

double random_next(struct random *r) {
  uint64_t z = mix(atomic_fetch_add(&r->state, GAMMA) + GAMMA);
  return (double)(z >> 11) * 0x1p-53;
}

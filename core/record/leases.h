/* SPDX-License-Identifier: MIT */
/*
 * Leases, as a look finds them. The token of a lease is a number that rises
 * with each take, and behind it the number of the worker that took: so a lease
 * tells its owner.
 */
#ifndef LEASES_H
#define LEASES_H

#include "record/batch.h"

#define TOKEN_WORKER_BITS 20
#define TOKEN_NUMBER_BITS 44

static inline uint64_t token_make(uint64_t number, uint64_t worker) {
  return number << TOKEN_WORKER_BITS | worker;
}

static inline uint64_t token_number(uint64_t token) {
  return token >> TOKEN_WORKER_BITS;
}

/* 0: of none. */
static inline uint64_t token_worker(uint64_t token) {
  return token & RESPOOL_WORKER_MAX;
}

/* A lease that has not run out. */
typedef struct lease_found {
  batch_claim claim; /* its place, as an extend wants it */
  uint64_t token, items;
  int64_t until;
} lease_found;

typedef struct leases {
  lease_found *of;
  size_t n, cap;
} leases;

/* False: there is no memory. */
bool leases_add(leases *l, const lease_found *f);
void leases_free(leases *l);

#endif

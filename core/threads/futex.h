/* SPDX-License-Identifier: MIT */
/*
 * Sleeping on a word of memory until somebody wakes us: FUTEX_SHARED, of any
 * process; FUTEX_PRIVATE, of this one alone, which costs less.
 */
#ifndef FUTEX_H
#define FUTEX_H

#include <linux/futex.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define FUTEX_ANY UINT32_MAX

enum futex_scope { FUTEX_SHARED, FUTEX_PRIVATE = FUTEX_PRIVATE_FLAG };

#define FUTEX_FOREVER (-1)

/* Until woken by one of `bits`, or `ms` have passed; at once when it is not
   `seen`. A wait that may end by itself costs a timer. */
static inline void futex_wait(_Atomic uint32_t *at, enum futex_scope scope,
                              uint32_t seen, uint32_t bits, int64_t ms) {
  struct timespec t; /* this kind of wait has a deadline */
  if (ms != FUTEX_FOREVER) {
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += ms / 1000;
    t.tv_nsec += ms % 1000 * 1000000;
    if (t.tv_nsec >= 1000000000) {
      t.tv_nsec -= 1000000000;
      t.tv_sec++;
    }
  }
  (void)syscall(SYS_futex, at, FUTEX_WAIT_BITSET | scope, seen,
                ms == FUTEX_FOREVER ? NULL : &t, NULL, bits);
}

static inline void futex_wake(_Atomic uint32_t *at, enum futex_scope scope,
                              uint32_t bits, int n) {
  (void)syscall(SYS_futex, at, FUTEX_WAKE_BITSET | scope, n, NULL, NULL, bits);
}

#endif

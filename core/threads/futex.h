/* SPDX-License-Identifier: MIT */
/*
 * Sleeping on a word of memory, maybe shared, until somebody wakes us.
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

/* Until woken by one of `bits`, or `ms` have passed; at once when it is not
   `seen`. */
static inline void futex_wait(_Atomic uint32_t *at, uint32_t seen,
                              uint32_t bits, int64_t ms) {
  struct timespec t; /* this kind of wait has a deadline */
  clock_gettime(CLOCK_MONOTONIC, &t);
  t.tv_sec += ms / 1000;
  t.tv_nsec += ms % 1000 * 1000000;
  if (t.tv_nsec >= 1000000000) {
    t.tv_nsec -= 1000000000;
    t.tv_sec++;
  }
  (void)syscall(SYS_futex, at, FUTEX_WAIT_BITSET, seen, &t, NULL, bits);
}

static inline void futex_wake(_Atomic uint32_t *at, uint32_t bits, int n) {
  (void)syscall(SYS_futex, at, FUTEX_WAKE_BITSET, n, NULL, NULL, bits);
}

#endif

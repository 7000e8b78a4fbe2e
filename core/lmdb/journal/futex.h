/* SPDX-License-Identifier: MIT */
/*
 * Sleeping on a word of shared memory until another process wakes us.
 */
#ifndef JOURNAL_FUTEX_H
#define JOURNAL_FUTEX_H

#include <linux/futex.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Until woken, or `ms` have passed; at once when it is not `seen`. */
static inline void futex_wait(_Atomic uint32_t *at, uint32_t seen,
                              int64_t ms) {
  struct timespec t = {ms / 1000, ms % 1000 * 1000000};
  (void)syscall(SYS_futex, at, FUTEX_WAIT, seen, &t, NULL, 0);
}

static inline void futex_wake(_Atomic uint32_t *at, int n) {
  (void)syscall(SYS_futex, at, FUTEX_WAKE, n, NULL, NULL, 0);
}

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Two clocks. A store's own clock gives the time: the wall clock, or a manual
 * one that stands still until it is moved. The monotonic clock measures real
 * waits. Both count milliseconds.
 */
#ifndef CLOCK_H
#define CLOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct clock {
  bool manual;
  _Atomic int64_t ms; /* of a manual clock */
};

/* A manual clock begins at the wall time of the call. */
void clock_init(struct clock *c, bool manual);

/* Milliseconds since 1970, UTC. Any thread. */
int64_t clock_now(const struct clock *c);

/* The same by the system's clock. */
int64_t clock_wall(void);

/* Moves a manual clock forward or back; it stops at the ends of its range. Any
   thread. */
void clock_advance(struct clock *c, int64_t ms);

/* Milliseconds since some fixed moment; never steps back. */
int64_t clock_mono(void);

/* The same in microseconds. */
int64_t clock_mono_us(void);

/* `ms` after `now`, or the end of time. `now` is not negative. */
int64_t time_after(int64_t now, int64_t ms);

/* The moment `ms` from now, for a wait on CLOCK_MONOTONIC. A negative wait ends
   at once, one that is too long to express in about a century. */
void clock_deadline(struct timespec *t, int64_t ms);

#endif

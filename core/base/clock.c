/* SPDX-License-Identifier: MIT */
/*
 * A manual clock is one atomic number, so that tests may move it while other
 * threads read it. All else asks the system.
 */
#include "base/clock.h"

#include <assert.h>

static int64_t read_clock(clockid_t id) {
  struct timespec t;
  clock_gettime(id, &t);
  return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void clock_init(struct clock *c, bool manual) {
  c->manual = manual;
  atomic_init(&c->ms, manual ? read_clock(CLOCK_REALTIME) : 0);
}

int64_t clock_now(const struct clock *c) {
  return c->manual ? atomic_load(&c->ms) : read_clock(CLOCK_REALTIME);
}

int64_t clock_wall(void) {
  return read_clock(CLOCK_REALTIME);
}

int64_t time_after(int64_t now, int64_t ms) {
  return ms > INT64_MAX - now ? INT64_MAX : now + ms;
}

static int64_t add(int64_t a, int64_t b) {
  int64_t sum;
  if (!__builtin_add_overflow(a, b, &sum))
    return sum;
  return b < 0 ? INT64_MIN : INT64_MAX;
}

void clock_advance(struct clock *c, int64_t ms) {
  assert(c->manual);
  int64_t was = atomic_load(&c->ms);
  while (!atomic_compare_exchange_weak(&c->ms, &was, add(was, ms)))
    ;
}

int64_t clock_mono(void) {
  return read_clock(CLOCK_MONOTONIC);
}

int64_t clock_mono_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

void clock_deadline(struct timespec *t, int64_t ms) {
  const int64_t century = INT64_C(100) * 366 * 86400 * 1000;
  if (ms < 0)
    ms = 0;
  if (ms > century)
    ms = century;
  clock_gettime(CLOCK_MONOTONIC, t);
  t->tv_sec += (time_t)(ms / 1000);
  t->tv_nsec += (long)(ms % 1000) * 1000000;
  if (t->tv_nsec >= 1000000000) {
    t->tv_sec++;
    t->tv_nsec -= 1000000000;
  }
}

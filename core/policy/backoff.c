/* SPDX-License-Identifier: MIT */
/*
 * Retry policies: from the number of a failure to a delay, by plain
 * arithmetic. Every delay lies in [0, max]: a larger one is cut to max first,
 * then jitter makes it smaller, or spreads it below the cap. A double becomes a
 * number of milliseconds in one place, saturate().
 */
#include <math.h>

#include "base/error.h"

void respool_backoff_default(respool_backoff *b) {
  *b = (respool_backoff){
    .kind = RESPOOL_BACKOFF_EXPONENTIAL,
    .jitter = RESPOOL_JITTER_FULL,
    .initial = 1000,
    .factor = 2,
    .max = 3600000,
  };
}


/* ---- check ------------------------------------------------------------- */

static int check_range(const char *field, int value, int last) {
  if (value >= 0 && value <= last)
    return 0;
  return fail(RESPOOL_INVALID, "backoff: '%s' is unknown: %d", field, value);
}

static int check_delay(const char *field, int64_t ms) {
  if (ms >= 0)
    return 0;
  return fail(RESPOOL_INVALID, "backoff: '%s' is negative", field);
}

static int check_number(const char *field, double x, double least) {
  if (!isfinite(x))
    return fail(RESPOOL_INVALID, "backoff: '%s' is not finite", field);
  if (x < least)
    return fail(RESPOOL_INVALID, "backoff: '%s' must be at least %.0f", field,
                least);
  return 0;
}

static int check_ratio(double ratio) {
  if (ratio >= 0 && ratio <= 1) /* false for NaN */
    return 0;
  return fail(RESPOOL_INVALID, "backoff: 'ratio' is not in 0..1");
}

static int check_list(const respool_backoff *b) {
  if (b->count < 1 || b->count > RESPOOL_LIST_MAX)
    return fail(RESPOOL_INVALID, "backoff: 'list' must hold 1 to %d delays",
                RESPOOL_LIST_MAX);
  for (size_t i = 0; i < b->count; i++)
    if (b->list[i] < 0)
      return fail(RESPOOL_INVALID,
                  "backoff: 'list' holds a negative delay");
  return 0;
}

static int check_kind(const respool_backoff *b) {
  switch (b->kind) {
  case RESPOOL_BACKOFF_LINEAR:
    return check_delay("step", b->step);
  case RESPOOL_BACKOFF_EXPONENTIAL:
    return check_number("factor", b->factor, 1);
  case RESPOOL_BACKOFF_POLYNOMIAL:
    return check_number("factor", b->factor, 0);
  case RESPOOL_BACKOFF_LIST:
    return check_list(b);
  }
  return 0;
}

int respool_backoff_check(const respool_backoff *b) {
  int rc = check_range("kind", b->kind, RESPOOL_BACKOFF_DECORRELATED);
  if (rc == 0)
    rc = check_range("jitter", b->jitter, RESPOOL_JITTER_RATIO);
  if (rc == 0 && b->jitter == RESPOOL_JITTER_RATIO)
    rc = check_ratio(b->ratio);
  if (rc == 0)
    rc = check_delay("initial", b->initial);
  if (rc == 0)
    rc = check_kind(b);
  if (rc == 0 && b->max < b->initial)
    rc = fail(RESPOOL_INVALID, "backoff: 'max' is less than 'initial'");
  return rc;
}


/* ---- delay ------------------------------------------------------------- */

static int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}

/* `x` >= 0 rounded down, `cap` where it is larger. A double below the cap
   rounded to a double is never above the cap itself. */
static int64_t saturate(double x, int64_t cap) {
  return x < (double)cap ? (int64_t)x : cap;
}

/* a + b, both >= 0, cut to `cap`. */
static int64_t add(int64_t a, int64_t b, int64_t cap) {
  return b > cap - a ? cap : a + b;
}

static int64_t linear(const respool_backoff *b, uint64_t n) {
  uint64_t room = (uint64_t)(b->max - b->initial);
  if (b->step == 0)
    return b->initial;
  if (n - 1 > room / (uint64_t)b->step)
    return b->max;
  return b->initial + (int64_t)((n - 1) * (uint64_t)b->step);
}

/* The product is rounded to nearest: 1000 * 1.1 ^ 2 is 1210. */
static int64_t scale(const respool_backoff *b, double times) {
  return b->initial == 0 ? 0 : saturate((double)b->initial * times + 0.5,
                                        b->max);
}

static int64_t fibonacci(const respool_backoff *b, uint64_t n) {
  int64_t here = b->initial, next = b->initial;
  while (here > 0 && here < b->max && n-- > 1) {
    int64_t sum = add(here, next, b->max);
    here = next;
    next = sum;
  }
  return here;
}

static int64_t listed(const respool_backoff *b, uint64_t n) {
  return least(b->list[n < b->count ? n - 1 : b->count - 1], b->max);
}

static int64_t grow(const respool_backoff *b, uint64_t n) {
  switch (b->kind) {
  case RESPOOL_BACKOFF_LINEAR:
    return linear(b, n);
  case RESPOOL_BACKOFF_EXPONENTIAL:
    return scale(b, pow(b->factor, (double)(n - 1)));
  case RESPOOL_BACKOFF_POLYNOMIAL:
    return scale(b, pow((double)n, b->factor));
  case RESPOOL_BACKOFF_FIBONACCI:
    return fibonacci(b, n);
  case RESPOOL_BACKOFF_LIST:
    return listed(b, n);
  }
  return b->initial;
}

/* Uniform among the whole numbers low..high. */
static int64_t between(int64_t low, int64_t high, double u) {
  return low + saturate(u * ((double)(high - low) + 1), high - low);
}

static int64_t spread(const respool_backoff *b, int64_t d, double u) {
  int64_t arm = saturate((double)d * b->ratio, d);
  return between(d - arm, add(d, arm, b->max), u);
}

static int64_t jitter(const respool_backoff *b, int64_t d, double u) {
  switch (b->jitter) {
  case RESPOOL_JITTER_FULL:
    return between(0, d, u);
  case RESPOOL_JITTER_EQUAL:
    return between(d - d / 2, d, u);
  case RESPOOL_JITTER_RATIO:
    return spread(b, d, u);
  }
  return d;
}

/* The delay before the first is taken to be `initial`. */
static int64_t decorrelate(const respool_backoff *b, int64_t previous,
                           double u) {
  int64_t from = previous > b->initial ? previous : b->initial;
  return between(b->initial, add(from, add(from, from, b->max), b->max), u);
}

int64_t respool_backoff_delay(const respool_backoff *b, uint64_t attempt,
                              int64_t previous, double u) {
  if (b->kind == RESPOOL_BACKOFF_DECORRELATED)
    return decorrelate(b, previous, u);
  return jitter(b, grow(b, attempt ? attempt : 1), u);
}

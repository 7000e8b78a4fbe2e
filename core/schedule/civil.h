/* SPDX-License-Identifier: MIT */
/*
 * Dates of the proleptic Gregorian calendar, as numbers.
 */
#ifndef CIVIL_H
#define CIVIL_H

#include <stdint.h>

enum { DAY_SECONDS = 86400 };

typedef struct civil {
  int64_t year;
  int month; /* 1 to 12 */
  int day;   /* 1 to 31 */
} civil;

/* The day's number; 1970-01-01 is 0. `month` must be in range, `day` need not
   be: day 0 is the day before the first. */
int64_t days_of(int64_t year, int month, int day);

/* The date of a day's number. */
civil civil_of(int64_t days);

/* 0 is Sunday. */
int weekday_of(int64_t days);

int days_in_month(int64_t year, int month);

/* `a / b` and its remainder, rounded down: the remainder is never negative. */
static inline int64_t floor_div(int64_t a, int64_t b) {
  return a / b - (a % b < 0);
}

static inline int64_t floor_mod(int64_t a, int64_t b) {
  return a - floor_div(a, b) * b;
}

#endif

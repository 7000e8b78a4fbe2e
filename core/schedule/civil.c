/* SPDX-License-Identifier: MIT */
/*
 * Dates as numbers; see civil.h. A year begins in March here, so that the day
 * that comes and goes is its last; 400 years have 146,097 days.
 */
#include "schedule/civil.h"

#include <stdbool.h>

enum { ERA_DAYS = 146097, ERA_YEARS = 400, DAYS_BEFORE_1970 = 719468 };

/* Days of a March-based year before its month `m`, 0 for March. */
static int64_t days_before(int64_t m) {
  return (153 * m + 2) / 5;
}

int64_t days_of(int64_t year, int month, int day) {
  int64_t y = month <= 2 ? year - 1 : year;
  int64_t era = floor_div(y, ERA_YEARS), of_era = floor_mod(y, ERA_YEARS);
  int64_t of_year = days_before((month + 9) % 12) + day - 1;
  return era * ERA_DAYS + of_era * 365 + of_era / 4 - of_era / 100 + of_year -
         DAYS_BEFORE_1970;
}

civil civil_of(int64_t days) {
  int64_t n = days + DAYS_BEFORE_1970;
  int64_t era = floor_div(n, ERA_DAYS), d = floor_mod(n, ERA_DAYS);
  int64_t y = (d - d / 1460 + d / 36524 - d / 146096) / 365;
  int64_t of_year = d - (365 * y + y / 4 - y / 100);
  int64_t m = (5 * of_year + 2) / 153;
  civil c = {.month = (int)(m < 10 ? m + 3 : m - 9),
             .day = (int)(of_year - days_before(m) + 1)};
  c.year = era * ERA_YEARS + y + (c.month <= 2);
  return c;
}

int weekday_of(int64_t days) {
  return (int)floor_mod(days + 4, 7); /* 1970-01-01 was a Thursday */
}

int days_in_month(int64_t year, int month) {
  static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
  return days[month - 1] + (month == 2 && leap);
}

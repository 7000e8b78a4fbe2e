/* SPDX-License-Identifier: MIT */
/*
 * Decimal text of doubles; see decimal.h. Most numbers that people write have
 * few decimals: such a one is a whole number below 2^53 divided by a power of
 * ten, both exact, and the division rounds as reading the text would.
 */
#include "base/decimal.h"

#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXACT 9007199254740992.0 /* 2^53 */
#define DECIMALS 15
#define PLAIN_LEAST 1e-5 /* smaller ones have an exponent */

static locale_t c_locale;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_locale(void) {
  c_locale = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0);
}

void *decimal_enter(void) {
  pthread_once(&once, make_locale);
  return c_locale ? uselocale(c_locale) : NULL;
}

void decimal_leave(void *before) {
  if (before) uselocale((locale_t)before);
}

size_t decimal_digits(uint64_t n, size_t least, char *text) {
  char digits[24], *at = digits + sizeof digits;
  size_t count = 0;
  for (; n > 0 || count < least; n /= 10, count++)
    *--at = (char)('0' + n % 10);
  memcpy(text, at, count);
  return count;
}

static size_t write_whole(double v, char *text) {
  size_t sign = signbit(v) ? 1 : 0;
  *text = '-';
  size_t n = decimal_digits((uint64_t)fabs(v), 1, text + sign);
  text[sign + n] = '\0';
  return sign + n;
}

/* The digits of n with a point before the last `decimals` of them. */
static size_t write_parts(bool negative, uint64_t n, size_t decimals,
                          char *text) {
  size_t sign = negative ? 1 : 0;
  *text = '-';
  char *at = text + sign;
  size_t count = decimal_digits(n, decimals + 1, at);
  char *point = at + count - decimals;
  memmove(point + 1, point, decimals);
  *point = '.';
  at[count + 1] = '\0';
  return sign + count + 1;
}

static size_t write_few_decimals(double v, char *text) {
  double size = fabs(v), power = 1;
  if (size < PLAIN_LEAST) return 0;
  for (size_t decimals = 1; decimals <= DECIMALS; decimals++) {
    power *= 10;
    double n = nearbyint(size * power);
    if (n >= EXACT) return 0;
    if (n / power == size)
      return write_parts(v < 0, (uint64_t)n, decimals, text);
  }
  return 0;
}

static size_t write_any(double v, char *text) {
  void *before = decimal_enter();
  size_t n = 0;
  for (int digits = 14; digits <= 17; digits++) {
    n = (size_t)snprintf(text, DECIMAL_MAX, "%.*g", digits, v);
    if (strtod(text, NULL) == v) break;
  }
  decimal_leave(before);
  return n;
}

size_t decimal_write(double v, char text[DECIMAL_MAX]) {
  if (v == 0 || fabs(v) <= EXACT) {
    if (v == trunc(v)) return write_whole(v, text);
    size_t n = write_few_decimals(v, text);
    if (n) return n;
  }
  return write_any(v, text);
}

size_t decimal_write_fixed(double v, int decimals, char text[DECIMAL_FIXED]) {
  void *before = decimal_enter();
  if (decimals < 0 || decimals > 9) decimals = 9;
  int n = snprintf(text, DECIMAL_FIXED, "%.*f", decimals, v);
  decimal_leave(before);
  return (size_t)n;
}

bool decimal_read(const char *text, double *v) {
  char *end;
  void *before = decimal_enter();
  double found = strtod(text, &end);
  decimal_leave(before);
  if (end == text || *end != '\0') return false;
  *v = found;
  return true;
}

/* SPDX-License-Identifier: MIT */
/*
 * Doubles as decimal text and back, whatever the locale of the process or of
 * the thread is: the decimal point is a point. The shortest of the usual forms
 * that reads back as the same double is written.
 */
#ifndef DECIMAL_H
#define DECIMAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DECIMAL_MAX 32 /* bytes of a text, its NUL included */

/* Writes a finite double, or inf, -inf, nan; the length. Whole numbers up to
   2^53 have neither a point nor an exponent. */
size_t decimal_write(double v, char text[DECIMAL_MAX]);

/* The digits of n, at least so many, 20 at most, without a NUL; how many. */
size_t decimal_digits(uint64_t n, size_t least, char *text);

/* The same with so many decimals, 9 at most, always. */
#define DECIMAL_FIXED 352
size_t decimal_write_fixed(double v, int decimals, char text[DECIMAL_FIXED]);

/* Reads all of a text as strtod does: false when something is left over, or
   there is no number in it. */
bool decimal_read(const char *text, double *v);

/* Makes "C" the locale of this thread for numbers; the way back. */
void *decimal_enter(void);
void decimal_leave(void *before);

#endif

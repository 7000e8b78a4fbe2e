/* SPDX-License-Identifier: MIT */
/*
 * A set of numbers that grows and is asked. Start with all zeros, end with
 * free(of).
 */
#ifndef NUMBERS_H
#define NUMBERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct numbers {
  uint64_t *of;
  size_t n, cap;
  bool sorted; /* as the first question needs it */
} numbers;

/* False for want of memory. One that is there may be added once more. */
bool numbers_add(numbers *l, uint64_t number);
bool numbers_has(numbers *l, uint64_t number);

#endif

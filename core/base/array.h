/* SPDX-License-Identifier: MIT */
/*
 * Arrays that grow.
 */
#ifndef ARRAY_H
#define ARRAY_H

#include <stdbool.h>
#include <stddef.h>

/* The way of array_grow when there is no room yet. */
bool array_enlarge(void *array, size_t n, size_t more, size_t *cap,
                   size_t size);

/* Makes room for `more` elements of `size` bytes behind the first `n`.
   `array` is the address of the pointer to the first element; it and `*cap`
   change together. False when out of memory, with the array as it was. */
static inline bool array_grow(void *array, size_t n, size_t more, size_t *cap,
                              size_t size) {
  return more <= *cap - n || array_enlarge(array, n, more, cap, size);
}

#endif

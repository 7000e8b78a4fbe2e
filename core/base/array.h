/* SPDX-License-Identifier: MIT */
/*
 * Arrays that grow.
 */
#ifndef ARRAY_H
#define ARRAY_H

#include <stdbool.h>
#include <stdlib.h>

/* Makes room for `more` elements of `size` bytes behind the first `n`; false
   when out of memory, with the array as it was. */
static inline bool array_room(void **v, size_t n, size_t more, size_t *cap,
                              size_t size) {
  if (more <= *cap - n) return true;
  size_t wanted = *cap ? *cap * 2 : 8;
  if (wanted < n + more) wanted = n + more;
  void *bigger = realloc(*v, wanted * size);
  if (!bigger) return false;
  *v = bigger;
  *cap = wanted;
  return true;
}

#endif

/* SPDX-License-Identifier: MIT */
/* Growing arrays; see array.h. */
#include "base/array.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

bool array_enlarge(void *array, size_t n, size_t more, size_t *cap,
                   size_t size) {
  size_t wanted = *cap ? *cap * 2 : 8;
  if (wanted < n + more) wanted = n + more;
  void *first; /* of any type, so it is copied as bytes */
  memcpy(&first, array, sizeof first);
  first = wanted > SIZE_MAX / size ? NULL : realloc(first, wanted * size);
  if (!first) return false;
  memcpy(array, &first, sizeof first);
  *cap = wanted;
  return true;
}

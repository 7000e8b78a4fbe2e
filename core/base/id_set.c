/* SPDX-License-Identifier: MIT */
/* A set of numbers; see id_set.h. */
#include "base/id_set.h"

#include "base/array.h"

#include <stdlib.h>

bool id_set_add(id_set *l, uint64_t number) {
  if (!array_grow(&l->of, l->n, 1, &l->cap, sizeof *l->of)) return false;
  l->of[l->n++] = number;
  l->sorted = false;
  return true;
}

static int by_size(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

bool id_set_has(id_set *l, uint64_t number) {
  if (!l->n) return false;
  if (!l->sorted) qsort(l->of, l->n, sizeof *l->of, by_size);
  l->sorted = true;
  return bsearch(&number, l->of, l->n, sizeof *l->of, by_size) != NULL;
}

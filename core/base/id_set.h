/* SPDX-License-Identifier: MIT */
/*
 * A set of numbers that only grows. Start with all zeros, end with free(of).
 */
#ifndef ID_SET_H
#define ID_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct id_set {
  uint64_t *of;
  size_t n, cap;
  bool sorted; /* by the first call of id_set_has */
} id_set;

/* False when out of memory. Adding a number twice is allowed. */
bool id_set_add(id_set *l, uint64_t number);
bool id_set_has(id_set *l, uint64_t number);

#endif

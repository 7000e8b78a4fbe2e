/* SPDX-License-Identifier: MIT */
#include "record/leases.h"

#include <stdlib.h>

#include "base/array.h"

bool leases_add(leases *l, const lease_found *f) {
  if (!array_grow(&l->of, l->n, 1, &l->cap, sizeof *l->of)) return false;
  l->of[l->n++] = *f;
  return true;
}

void leases_free(leases *l) {
  free(l->of);
}

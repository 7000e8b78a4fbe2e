/* SPDX-License-Identifier: MIT */
/* The recent records of a damaged store; see overlay.h. */
#include "lmdb/repair/overlay.h"

#include "base/array.h"
#include "lmdb/env/txn/txn.h"

#include <stdlib.h>

bool overlay_add(overlay *o, respool_bytes key, respool_bytes value) {
  overlay_record r;
  if (!array_grow(&o->of, o->n, 1, &o->cap, sizeof *o->of) ||
      arena_copy(&o->memory, key, &r.key) ||
      arena_copy(&o->memory, value, &r.value))
    return false;
  o->of[o->n++] = r;
  o->sorted = false;
  return true;
}

static int by_key(const void *a, const void *b) {
  const overlay_record *x = a, *y = b;
  return key_rises(x->key, y->key) ? -1 : key_rises(y->key, x->key);
}

bool overlay_has(overlay *o, respool_bytes key) {
  overlay_record wanted = {.key = key};
  if (!o->n) return false;
  if (!o->sorted) qsort(o->of, o->n, sizeof *o->of, by_key);
  o->sorted = true;
  return bsearch(&wanted, o->of, o->n, sizeof *o->of, by_key) != NULL;
}

void overlay_free(overlay *o) {
  arena_free(&o->memory);
  free(o->of);
}

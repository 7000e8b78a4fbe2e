/* SPDX-License-Identifier: MIT */
#include "postgres/record/items.h"

#include <string.h>

#include "base/array.h"
#include "policy/outcome.h"

static int copy(arena *a, respool_bytes *b) {
  if (!b->data) return 0;
  return arena_copy(a, *b, b);
}

int taken_own(arena *a, taken *t) {
  respool_bytes bits = {t->bits, t->bits ? (t->n + 7) / 8 : 0};
  int rc = copy(a, &t->bytes);
  if (!rc) rc = copy(a, &t->memo);
  if (!rc) rc = copy(a, &t->history);
  if (!rc) rc = copy(a, &bits);
  t->bits = bits.data;
  return rc;
}

int taken_failures(arena *a, const PGresult *r, const taken *t,
                   respool_bytes *out) {
  int rc = 0;
  *out = t->history;
  for (size_t i = 0; i < t->n_lapses && !rc; i++)
    rc = outcome_add_failure(a, *out, taken_lapse(r, t, i), &outcome_lapse,
                             out);
  return rc;
}

static bool note_damage(damage *bad, uint64_t id, respool_bytes bytes) {
  if (!array_grow(&bad->of, bad->n, 1, &bad->cap, sizeof *bad->of))
    return false;
  bad->of[bad->n++] = (damaged_item){id, bytes};
  return true;
}

static bool unpack(respool_bytes packed, item *i) {
  unpacker u;
  blob_ref ref;
  unpacker_init(&u, packed.data, packed.size);
  return item_unpack(&u, i, &ref) && !ref.number;
}

respool_item_about taken_about(const taken *t, respool_bytes failures) {
  return (respool_item_about){
    .priority = t->priority, .pushed_at = t->pushed_at,
    .expires_at = t->expires_at, .version = t->version,
    .attempts = t->attempts, .deliveries = t->deliveries,
    .crashes = t->crashes, .error = failures_error(failures),
    .memo = t->memo};
}

static bool add(respool_page *p, const respool_item_about *like, uint64_t id,
                const item *i, respool_bytes packed) {
  respool_item *out = page_add(p, packed);
  return out && page_fill(p, out, id, like, i);
}

bool items_read(respool_page *p, const taken *t, uint32_t from, size_t limit,
                const respool_item_about *about, damage *bad, uint32_t *next) {
  run_reader r;
  bool whole = run_open(&r, t->bytes, t->first, t->n, t->skip);
  const respool_item_about *like = page_about(p, about);
  bool ok = like != NULL;
  uint32_t i = from;
  size_t before = p->n;
  for (; i < t->n && ok && p->n - before < limit; i++) {
    respool_bytes packed = {NULL, 0};
    item it;
    if (!taken_live(t, i)) continue;
    if (whole && run_item(&r, i, &packed) && unpack(packed, &it))
      ok = add(p, like, t->first + i, &it, packed);
    else
      ok = note_damage(bad, t->first + i, packed);
  }
  if (next) *next = i;
  return ok;
}

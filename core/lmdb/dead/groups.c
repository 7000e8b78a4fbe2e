/* SPDX-License-Identifier: MIT */
/*
 * Dead letters counted by group and reason: one pass over a DLQ with a hash
 * table (open addressing, linear probing). The names point into the map,
 * which does not change during a read.
 */
#include "lmdb/dead/groups.h"

#include "base/hash.h"
#include "lmdb/dead/dead_letters.h"
#include "lmdb/env/txn/cur.h"
#include "record/dead/group.h"

#include <stdlib.h>
#include <string.h>

#define HOUR 3600000 /* ms */

typedef struct table {
  respool_dead_group *slots; /* count 0: an empty slot */
  size_t n, cap;             /* cap is a power of two */
} table;

static respool_dead_group *slot_of(const table *h, respool_bytes name,
                                   respool_bytes reason) {
  uint64_t seed = XXH3_64bits(reason.data, reason.size);
  uint64_t sum = XXH3_64bits_withSeed(name.data, name.size, seed);
  size_t i = (size_t)sum & (h->cap - 1);
  while (h->slots[i].count && !(phrase_same(h->slots[i].group, name) &&
                                phrase_same(h->slots[i].reason, reason)))
    i = (i + 1) & (h->cap - 1);
  return &h->slots[i];
}

static bool grow(table *h) {
  table bigger = {.n = h->n, .cap = h->cap ? h->cap * 2 : 64};
  bigger.slots = calloc(bigger.cap, sizeof *bigger.slots);
  if (!bigger.slots) return false;
  for (size_t i = 0; i < h->cap; i++)
    if (h->slots[i].count)
      *slot_of(&bigger, h->slots[i].group, h->slots[i].reason) = h->slots[i];
  free(h->slots);
  *h = bigger;
  return true;
}

/* Counts `n` dead letters of a run. */
static int count_dead(table *h, const respool_dead_letter *l, uint64_t n,
                      int64_t now) {
  if (h->n * 2 >= h->cap && !grow(h)) return RESPOOL_NOMEM;
  respool_dead_group *g = slot_of(h, l->group, l->reason);
  if (!g->count) {
    g->group = l->group;
    g->reason = l->reason;
    h->n++;
  }
  bool dated = l->died_at > 0;
  dead_group_add(g, n, l->number,
                 dated ? (now - l->died_at) / HOUR : RESPOOL_GROUP_HOURS);
  if (dated) dead_group_died(g, l->died_at, l->died_at);
  return 0;
}

/* Dead letters that cannot be read count too, by the reason "damaged". */
static int count_dlq(txn *t, const dlq *x, int64_t now, table *h) {
  key start = dead_key(x->id, 0, 0);
  uint32_t of;
  uint64_t last, n, before = 0;
  dead_reader r;
  int rc = 0;
  cur c;
  cur_open(&c, t, DB_DEAD_LETTERS);
  bool found = cur_seek(&c, key_bytes(&start));
  while (found && !rc && dead_key_read(c.key, &of, &last, &n) && of == x->id) {
    if (last <= before) txn_fail(t, RESPOOL_CORRUPT); /* out of order? */
    before = last;
    if (!dead_run_open(c.key, c.value, &r)) {
      r.l.r.group = phrase_of(NULL);
      r.l.r.reason = phrase_of("damaged");
      r.l.r.died_at = 0;
    }
    r.l.r.number = last;
    rc = count_dead(h, &r.l.r, n, now);
    found = cur_next(&c);
  }
  cur_close(&c);
  return rc;
}

static void pack_groups(packer *out, const table *h) {
  for (size_t i = 0; i < h->cap; i++)
    if (h->slots[i].count) dead_group_pack(out, &h->slots[i]);
}

int lmdb_dead_groups(txn *t, const char *name, int64_t now, packer *out) {
  table h = {NULL, 0, 0};
  const dlq *x = dlq_find(t, name);
  if (!x) return t->rc;
  int rc = count_dlq(t, x, now, &h);
  if (!rc) pack_groups(out, &h);
  free(h.slots);
  txn_fail(t, rc ? rc : out->rc);
  return t->rc;
}

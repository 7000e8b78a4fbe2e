/* SPDX-License-Identifier: MIT */
/*
 * The partitions of a queue that a transaction has loaded, by name.
 */
#include "lmdb/partition/set.h"

#include "base/array.h"
#include "lmdb/queue/claims.h"
#include "lmdb/queue/state.h"
#include "record/fields.h"

#include <stdlib.h>
#include <string.h>

partition_set *partitions_of(txn *t, queue *q) {
  if (q->parted) return q->parted;
  partition_set *s = calloc(1, sizeof *s);
  if (!s) {
    txn_fail(t, RESPOOL_NOMEM);
    return NULL;
  }
  arena_init(&s->memory);
  packer_init(&s->record);
  s->end = &s->first;
  q->parted = s;
  return s;
}

static size_t bucket_of(const partition_set *s, respool_bytes name) {
  return (size_t)key_seed(name) & (s->n_buckets - 1);
}

/* Twice as many buckets, before they are more than full. */
static bool enlarge(txn *t, partition_set *s) {
  if (s->n < s->n_buckets) return true;
  size_t n = s->n_buckets ? 2 * s->n_buckets : 64;
  partition **buckets = calloc(n, sizeof *buckets);
  if (!buckets) {
    txn_fail(t, RESPOOL_NOMEM);
    return false;
  }
  free(s->buckets);
  s->buckets = buckets;
  s->n_buckets = n;
  for (partition *p = s->first; p; p = p->later) {
    size_t i = bucket_of(s, p->name);
    p->next = buckets[i];
    buckets[i] = p;
  }
  return true;
}

static bool is_named(respool_bytes a, respool_bytes b) {
  return a.size == b.size && !memcmp(a.data, b.data, a.size);
}

partition *partition_loaded(const partition_set *s, respool_bytes name) {
  partition *p = s->n_buckets ? s->buckets[bucket_of(s, name)] : NULL;
  while (p && !is_named(p->name, name)) p = p->next;
  return p;
}

partition *partition_add(txn *t, partition_set *s, respool_bytes name) {
  if (!enlarge(t, s)) return NULL;
  partition *p = arena_alloc(&s->memory, sizeof *p);
  if (!p) {
    txn_fail(t, RESPOOL_NOMEM);
    return NULL;
  }
  memset(p, 0, sizeof *p);
  txn_fail(t, arena_copy(&s->memory, name, &p->name));
  if (t->rc) return NULL;
  size_t i = bucket_of(s, p->name);
  p->next = s->buckets[i];
  s->buckets[i] = p;
  *s->end = p;
  s->end = &p->later;
  s->n++;
  return p;
}

void partition_changed(txn *t, queue *q, partition *p) {
  p->dirty = true;
  queue_changed(t, q);
}

static partition_line *line_of(const partition *p, int priority) {
  for (size_t i = 0; i < p->n_lines; i++)
    if (p->lines[i].priority == priority) return &p->lines[i];
  return NULL;
}

partition_line *partition_line_make(txn *t, queue *q, partition *p,
                                    int priority) {
  partition_line *l = line_of(p, priority);
  if (l) return l;
  if (p->n_lines == p->cap_lines) {
    size_t cap = p->cap_lines ? 2 * p->cap_lines : 1;
    l = arena_alloc(&q->parted->memory, cap * sizeof *l);
    if (!l) {
      txn_fail(t, RESPOOL_NOMEM);
      return NULL;
    }
    if (p->n_lines) memcpy(l, p->lines, p->n_lines * sizeof *l);
    p->lines = l;
    p->cap_lines = cap;
  }
  l = &p->lines[p->n_lines++];
  *l = (partition_line){.priority = priority};
  return l;
}

enum count partition_lone(txn *t, const queue *q, const partition *p) {
  line l = {q->id, SPACE_PARTED, p->lone_priority};
  place at;
  claim c;
  if (!p->lone) return COUNT_NONE;
  return claim_cover(t, &l, p->lone, &at, &c) ? COUNT_LEASED : COUNT_READY;
}

uint64_t partition_leased(txn *t, const queue *q, const partition *p) {
  uint64_t n = partition_lone(t, q, p) == COUNT_LEASED;
  for (size_t i = 0; i < p->n_lines; i++) n += p->lines[i].leased;
  return n;
}

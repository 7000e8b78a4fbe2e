/* SPDX-License-Identifier: MIT */
/*
 * Partitions as they are looked at: those with a record, and lone items.
 */
#include "lmdb/partition/list.h"

#include "lmdb/env/txn/cur.h"
#include "lmdb/partition/lones.h"
#include "lmdb/partition/set.h"
#include "lmdb/queue/flow.h"
#include "lmdb/queue/state.h"

#include <stdlib.h>
#include <string.h>

/* The figures of a partition, as a look returns them. */
typedef struct account {
  char name[RESPOOL_NAME_MAX];
  size_t name_size;
  uint64_t ready, leased, waiting;
  int64_t held_until, allowed, allowed_at;
  char held_for[RESPOOL_REASON_MAX + 1];
  int breaker;
  int64_t breaker_until;
  uint64_t outages, opened;
} account;

/* A walk over partitions. */
typedef struct walk {
  txn *t;
  const queue *q;
  int64_t now;
  const respool_partitions_options *options;
  queue_config config;
  account *list; /* by size: the largest so far, falling; room for twice the
                    limit */
  size_t n, lones;
} walk;

static bool by_size(const walk *w) {
  return w->options->order == RESPOOL_PARTITIONS_BY_SIZE;
}

static void account_open(account *a, respool_bytes name) {
  memset(a, 0, sizeof *a);
  a->name_size = name.size < sizeof a->name ? name.size : sizeof a->name;
  memcpy(a->name, name.data, a->name_size);
}

static void count_lone(const walk *w, const partition *p, account *a) {
  enum count state = partition_lone(w->t, w->q, p);
  a->ready += state == COUNT_READY;
  a->leased += state == COUNT_LEASED;
}

static void account_of(const walk *w, const partition *p, account *a) {
  respool_flow f;
  account_open(a, p->name);
  count_lone(w, p, a);
  for (size_t i = 0; i < p->n_lines; i++) {
    a->ready += p->lines[i].ready;
    a->leased += p->lines[i].leased;
    a->waiting += p->lines[i].waiting;
  }
  flow_tell(p->flow, &w->config, w->now, &f);
  a->held_until = f.held_until;
  a->allowed = f.allowed;
  a->allowed_at = f.allowed_at;
  strcpy(a->held_for, f.held_for);
  a->breaker = f.breaker;
  a->breaker_until = f.breaker_until;
  a->outages = f.outages;
  a->opened = f.opened;
}

static uint64_t size_of(const account *a) {
  return a->ready + a->leased + a->waiting;
}

static void rank(walk *w, const account *a) {
  bool full = w->n == w->options->limit;
  if (full && size_of(a) <= size_of(&w->list[w->n - 1])) return;
  size_t i = full ? w->n - 1 : w->n++;
  for (; i > 0 && size_of(&w->list[i - 1]) < size_of(a); i--)
    w->list[i] = w->list[i - 1];
  w->list[i] = *a;
}

/* Whether a look passes over a partition: it is stored, until something else is
   changed in it, but has neither items nor anything that bounds them now. */
static bool is_over(const walk *w, const partition *p, const account *a) {
  return !size_of(a) &&
         (!p->flow || flow_rests(p->flow, &w->config, w->now) <= w->now);
}

static void note(walk *w, const cur *c) {
  partition p = {.name = {(const char *)c->key.data + 4, c->key.size - 4}};
  account a;
  arena own;
  arena_init(&own);
  int rc = partition_unpack(c->key, c->value, &own, &p);
  if (rc)
    partition_unread(w->t, w->q, rc);
  else
    account_of(w, &p, &a);
  bool shown = !rc && !is_over(w, &p, &a);
  if (shown && by_size(w))
    rank(w, &a);
  else if (shown)
    w->list[w->n++] = a;
  arena_free(&own);
}

static bool note_lone(void *arg, const lone *x) {
  walk *w = arg;
  partition p = {.name = x->name, .lone = x->id, .lone_priority = x->priority};
  if (w->lones == w->options->limit) return false;
  account_of(w, &p, &w->list[w->n++]);
  w->lones++;
  return true;
}

static int by_name(const void *a, const void *b) {
  const account *x = a, *y = b;
  size_t n = x->name_size < y->name_size ? x->name_size : y->name_size;
  int order = memcmp(x->name, y->name, n);
  return order ? order : (x->name_size > y->name_size) -
                         (x->name_size < y->name_size);
}

/* Both kinds, of each no more than there may be in all; by size, no partition
   is smaller than one that is but a lone item. */
static void merge_lones(walk *w, respool_bytes after) {
  int rc = lones_each(w->t, w->q, after, note_lone, w);
  if (rc) partition_unread(w->t, w->q, rc);
  if (!by_size(w) && w->n) qsort(w->list, w->n, sizeof *w->list, by_name);
  if (w->n > w->options->limit) w->n = w->options->limit;
}

static void walk_partitions(walk *w) {
  txn *t = w->t;
  respool_bytes from = w->options->after;
  if (by_size(w)) from.size = 0;
  name_key start = partition_key(w->q->id, from);
  cur c;
  cur_open(&c, t, DB_PARTITIONS);
  bool more = cur_seek(&c, name_key_bytes(&start));
  if (more && from.size && c.key.size == start.n &&
      !memcmp(c.key.data, start.b, start.n))
    more = cur_next(&c);
  for (; more && !t->rc && c.key.size > 4 && !memcmp(c.key.data, start.b, 4) &&
         (by_size(w) || w->n < w->options->limit); more = cur_next(&c))
    note(w, &c);
  cur_close(&c);
  merge_lones(w, from);
}

static void account_pack(packer *out, const account *a) {
  pack_array(out, 12);
  pack_bytes(out, a->name, a->name_size);
  pack_uint(out, a->ready);
  pack_uint(out, a->leased);
  pack_uint(out, a->waiting);
  pack_int(out, a->held_until);
  pack_bytes(out, a->held_for, strlen(a->held_for));
  pack_int(out, a->allowed);
  pack_int(out, a->allowed_at);
  pack_int(out, a->breaker);
  pack_int(out, a->breaker_until);
  pack_uint(out, a->outages);
  pack_uint(out, a->opened);
}

int lmdb_partitions(txn *t, const char *name, int64_t wall,
                    partitions_req *r) {
  int rc = 0;
  const queue *q = queue_find(t, name, &rc);
  if (!q) return rc;
  walk w = {.t = t, .q = q, .now = queue_now(q, wall), .options = r->options};
  config_of_partition(&w.config, &q->config);
  w.list = calloc(r->options->limit, 2 * sizeof *w.list);
  if (!w.list) txn_fail(t, RESPOOL_NOMEM);
  if (!t->rc) walk_partitions(&w);
  for (size_t i = 0; i < w.n; i++) account_pack(r->out, &w.list[i]);
  free(w.list);
  txn_fail(t, r->out->rc);
  return t->rc;
}

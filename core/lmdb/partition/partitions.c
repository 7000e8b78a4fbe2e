/* SPDX-License-Identifier: MIT */
/*
 * Partitions. Invariants:
 *
 *   an item of a partition is in its list of ready ids, or under a claim that
 *   is leased or waits, or it is lone; in space PARTED it has no claim while it
 *   is listed, in PARTED_SOLO one that is parked;
 *   a line with ready items is in turn, or its partition has a due time, or it
 *   is blocked by leases or earlier items of its partition;
 *   a lone item is ready, and has a turn of its own, until a claim covers it;
 *   then it is leased;
 *   a partition has a record as long as it has items, or a flow that matters.
 */
#include "lmdb/partition/partitions.h"

#include "base/array.h"
#include "lmdb/env/txn/cur.h"
#include "lmdb/partition/line.h"
#include "lmdb/partition/lones.h"
#include "lmdb/partition/turns.h"
#include "lmdb/queue/state.h"
#include "lmdb/record/item_reader.h"
#include "lmdb/record/segments.h"
#include "record/fields.h"
#include "record/segment.h"

#include <stdlib.h>
#include <string.h>

int partitions_unordered(const queue *q) {
  return fail(RESPOOL_INVALID, "queue '%.120s': a queue in strict order has no "
              "partitions", q->name);
}

static bool is_same(respool_bytes a, respool_bytes b) {
  return a.size == b.size && !memcmp(a.data, b.data, a.size);
}

/* The record, or where there is none one that is empty and not stored. */
static partition *load(txn *t, queue *q, respool_bytes name) {
  partition_set *s = partitions_of(t, q);
  partition *p = s ? partition_loaded(s, name) : NULL;
  if (!s || p) return p;
  respool_bytes v;
  name_key k = partition_key(q->id, name);
  p = partition_add(t, s, name);
  if (!p) return NULL;
  p->stored = txn_get(t, DB_PARTITIONS, name_key_bytes(&k), &v);
  int rc = p->stored ? partition_unpack(name_key_bytes(&k), v, &s->memory, p)
                     : 0;
  if (rc) partition_unread(t, q, rc);
  return t->rc ? NULL : p;
}

/* A partition that was but a lone item gets a record. */
static void take_over_lone(txn *t, queue *q, partition *p, const lone *x) {
  lones_end(t, q);
  p->lone = x->id;
  p->lone_priority = x->priority;
  p->number = ++q->next_partition;
  partition_changed(t, q, p);
}

partition *partition_find(txn *t, queue *q, respool_bytes name) {
  partition *p = load(t, q, name);
  lone x;
  if (p && !p->number && lone_find(t, q, p->name, &x))
    take_over_lone(t, q, p, &x);
  return p && p->number && !t->rc ? p : NULL;
}

partition *partition_make(txn *t, queue *q, respool_bytes name) {
  partition *p = partition_find(t, q, name);
  if (p || t->rc) return p;
  p = load(t, q, name);
  if (!p) return NULL;
  p->number = ++q->next_partition;
  q->n_partitions++;
  partition_changed(t, q, p);
  return p;
}

/* ---- pushes and moves --------------------------------------------------- */

/* Items of one partition that follow one another in a push. */
typedef struct addition {
  lone of; /* the first; `found`: it is not lone */
  uint64_t n;
} addition;

typedef struct additions {
  txn *t;
  queue *q;
  int priority;
  bool waits;
  addition *of;
  size_t n, cap;
} additions;

static void note_addition(additions *x, respool_bytes name, uint64_t id) {
  addition *last = x->n ? &x->of[x->n - 1] : NULL;
  if (last && last->of.id + last->n == id && is_same(last->of.name, name)) {
    last->n++;
  } else if (!array_grow(&x->of, x->n, 1, &x->cap, sizeof *x->of)) {
    txn_fail(x->t, RESPOOL_NOMEM);
  } else {
    x->of[x->n++] = (addition){{name, id, x->priority, true}, 1};
  }
}

/* Has the partition a record, stored or about to be? */
static bool has_record(txn *t, const queue *q, respool_bytes name) {
  if (q->n_partitions == q->n_lones) return false;
  const partition *p = partition_loaded(q->parted, name);
  name_key k = partition_key(q->id, name);
  respool_bytes v;
  return p ? p->number > 0
           : txn_get(t, DB_PARTITIONS, name_key_bytes(&k), &v);
}

/* May item i of a sorted list be lone? Only if it is the one of its partition,
   in the push and in the queue. */
static bool may_be_lone(const additions *x, lone **list, size_t n, size_t i) {
  const addition *a = (const addition *)list[i];
  respool_bytes name = a->of.name;
  return a->n == 1 && (i == 0 || !is_same(list[i - 1]->name, name)) &&
         (i + 1 == n || !is_same(list[i + 1]->name, name)) &&
         !has_record(x->t, x->q, name);
}

/* Only where nothing bounds partitions, so that nobody has to look at one
   before its item ends. */
static void add_lones(additions *x) {
  if (x->waits || config_bounds_partitions(&x->q->config) || !x->n) return;
  size_t n = 0;
  lone **list = arena_alloc(&x->q->parted->memory, 2 * x->n * sizeof *list);
  if (!list) {
    txn_fail(x->t, RESPOOL_NOMEM);
    return;
  }
  lone **chosen = list + x->n;
  for (size_t i = 0; i < x->n; i++) list[i] = &x->of[i].of;
  lones_sort(list, x->n);
  for (size_t i = 0; i < x->n; i++)
    if (may_be_lone(x, list, x->n, i)) chosen[n++] = list[i];
  lones_add(x->t, x->q, chosen, n);
}

/* A take finds the item by a turn of its own. */
static void count_lone(txn *t, queue *q, const lone *a) {
  q->n_partitions++;
  turn_give(t, q, (partition_turn){.lone = a->id, .priority = a->priority});
}

static void push_addition(const additions *x, const addition *a) {
  txn *t = x->t;
  queue *q = x->q;
  partition *p = partition_make(t, q, a->of.name);
  partition_line *l = p ? partition_line_make(t, q, p, x->priority) : NULL;
  if (!l || t->rc) return;
  if (!x->waits) line_append(t, q, p, l, a->of.id, a->n);
  for (uint64_t i = 0; x->waits && i < a->n; i++)
    line_put_waiting(t, q, p, l, a->of.id + i);
  partition_changed(t, q, p);
  partition_line_up(t, q, p);
}

void partitions_push(txn *t, queue *q, const append_req *r, uint64_t first,
                     bool waits) {
  builder_cursor c = {.segment = 0};
  additions x = {.t = t, .q = q, .priority = r->priority, .waits = waits};
  item i;
  if (!partitions_of(t, q)) return;
  for (uint64_t id = first; builder_next_item(r->builder, &c, &i); id++)
    if (i.partition.size) note_addition(&x, i.partition, id);
  add_lones(&x);
  for (size_t j = 0; j < x.n && !t->rc; j++)
    if (x.of[j].of.found)
      push_addition(&x, &x.of[j]);
    else
      count_lone(t, q, &x.of[j].of);
  free(x.of);
}

static bool counts_waiting(enum count c) {
  return c == COUNT_SCHEDULED || c == COUNT_RETRYING;
}

/* The partition of an item, which is lone if there is no record of it. */
static partition *partition_of(txn *t, queue *q, const lone *i,
                               enum count from) {
  if (from == COUNT_NONE) return partition_make(t, q, i->name);
  partition *p = load(t, q, i->name);
  if (p && !p->number) take_over_lone(t, q, p, i);
  return p;
}

/* An item goes from one state to another. */
static void move(txn *t, queue *q, const lone *i, enum count from,
                 enum count to, bool solo) {
  partition *p = partition_of(t, q, i, from);
  partition_line *x = p ? partition_line_make(t, q, p, i->priority) : NULL;
  if (!x) return;
  bool listed = p->lone != i->id;
  if (!listed) p->lone = 0;
  if (from == COUNT_READY && listed) line_remove(t, q, p, x, i->id);
  if (from == COUNT_LEASED && x->leased && listed) x->leased--;
  if (counts_waiting(from) && !counts_waiting(to))
    line_del_waiting(t, q, p, x, i->id);
  if (to == COUNT_READY) line_insert(t, q, p, x, i->id, solo);
  if (to == COUNT_LEASED) x->leased++;
  if (counts_waiting(to) && !counts_waiting(from))
    line_put_waiting(t, q, p, x, i->id);
  partition_changed(t, q, p);
  partition_line_up(t, q, p);
}

static void end_item(txn *t, queue *q, const lone *x, enum count from) {
  if (has_record(t, q, x->name)) {
    move(t, q, x, from, COUNT_NONE, false);
  } else {
    lones_end(t, q);
    q->n_partitions--;
  }
}

void partition_move(txn *t, queue *q, const line *l, const respool_item *i,
                    enum count from, enum count to) {
  lone x = {i->about->partition, i->id, l->priority, false};
  if (from == to || !x.name.size || !partitions_of(t, q)) return;
  if (to == COUNT_NONE)
    end_item(t, q, &x, from);
  else
    move(t, q, &x, from, to, l->space == SPACE_PARTED_SOLO);
}

void partition_end_given(txn *t, queue *q, const line *l,
                         const respool_item *i) {
  lone x = {i->about->partition, i->id, l->priority, false};
  if (l->space == SPACE_PARTED && x.name.size && partitions_of(t, q))
    end_item(t, q, &x, COUNT_NONE);
}

/* ---- items by themselves ------------------------------------------------ */

void partition_park(txn *t, queue *q, const line *l, const claim *c,
                    const respool_page *page, size_t i) {
  place to = {*l, page->items[i].id, 1};
  claim alone = *c;
  to.line.space = SPACE_PARTED_SOLO;
  alone.last = to.first;
  alone.left = 1;
  alone.state = CLAIM_PARKED;
  alone.token = 0;
  alone.visible_at = 0;
  segment_put_one(t, q, &to, page->packed[i], page->items[i].about);
  claim_put(t, &to, &alone);
}

/* It moves to a segment of its own, so that its turn is void. */
void partition_end_lone(txn *t, queue *q, partition *p) {
  static const claim none;
  line l = {q->id, SPACE_PARTED, p->lone_priority};
  respool_page page;
  if (partition_lone(t, q, p) != COUNT_READY) return;
  page_init(&page);
  item_reader r = {.page = &page, .line = l, .from = p->lone, .upto = p->lone,
                   .want = 1};
  partition_line *x = partition_line_make(t, q, p, l.priority);
  if (read_items(t, &r) == READ_END && page.n == 1 && x) {
    segments_settle(t, q, &l, &p->lone, 1);
    partition_park(t, q, &l, &none, &page, 0);
    line_insert(t, q, p, x, p->lone, true);
    p->lone = 0;
  }
  page_clear(&page);
}

partition_line *partition_adopt(txn *t, queue *q, partition *p) {
  partition_line *l = partition_line_make(t, q, p, p->lone_priority);
  if (!l) return NULL;
  line_insert(t, q, p, l, p->lone, false);
  p->lone = 0;
  partition_changed(t, q, p);
  return l;
}

/* ---- storing ------------------------------------------------------------ */

static bool is_empty(const partition *p) {
  if (p->lone) return false;
  for (size_t i = 0; i < p->n_lines; i++)
    if (p->lines[i].ready || p->lines[i].leased || p->lines[i].waiting)
      return false;
  return true;
}

/* Has an empty partition a flow that matters still? Then it is looked at when
   that is over. */
static bool is_kept(txn *t, queue *q, partition *p) {
  queue_config c;
  if (!p->flow) return false;
  config_of_partition(&c, &q->config);
  int64_t rests = flow_rests(p->flow, &c, q->clock_last);
  if (rests <= q->clock_last) return false;
  partition_set_due(t, q, p, rests);
  return true;
}

static void store(txn *t, queue *q, partition *p) {
  name_key k = partition_key(q->id, p->name);
  packer *out = &q->parted->record;
  if (is_empty(p) && !is_kept(t, q, p)) {
    partition_set_due(t, q, p, 0);
    if (p->stored) txn_del(t, DB_PARTITIONS, name_key_bytes(&k));
    q->n_partitions--;
    return;
  }
  packer_reset(out);
  partition_pack(out, p);
  record_put(t, DB_PARTITIONS, name_key_bytes(&k), out);
}

static void store_all(txn *t, queue *q) {
  turns_store(t, q);
  for (partition *p = q->parted->first; p && !t->rc; p = p->later)
    if (p->dirty && p->number) store(t, q, p);
  runs_trim(t, q);
}

void partitions_store(txn *t) {
  for (queue *q = t->queues; q; q = q->next)
    if (q->parted) store_all(t, q);
}

void partitions_forget(txn *t, bool committed) {
  for (queue *q = t->queues; q; q = q->next) partition_set_free(q);
  if (t->write) lones_settle(t, committed);
}

bool partitions_drop(txn *t, queue *q, size_t limit) {
  static const enum db tables[] = {DB_PARTITIONS, DB_PARTITION_ITEMS, DB_TURNS,
                                   DB_PARTITION_DUE, DB_LONES};
  name_key prefix = partition_key(q->id, (respool_bytes){NULL, 0});
  respool_bytes k, v;
  if (q->parted) store_all(t, q); /* what the items' end has changed */
  partition_set_free(q);
  q->n_runs = 0;
  for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
    while (txn_seek(t, tables[i], name_key_bytes(&prefix), &k, &v) &&
           k.size >= prefix.n && !memcmp(k.data, prefix.b, prefix.n)) {
      if (!limit--) return true;
      tree_key copy;
      memcpy(copy.b, k.data, k.size);
      txn_del(t, tables[i], (respool_bytes){copy.b, k.size});
      q->n_partitions -= tables[i] == DB_PARTITIONS && q->n_partitions;
      queue_changed(t, q);
    }
  return false;
}

/* Has a stored partition any items? */
static bool has_items(txn *t, const queue *q, respool_bytes k,
                      respool_bytes v) {
  partition p = {.n_lines = 0};
  arena a;
  arena_init(&a);
  int rc = partition_unpack(k, v, &a, &p);
  if (rc) partition_unread(t, q, rc);
  bool empty = is_empty(&p);
  arena_free(&a);
  return !empty;
}

bool partitions_remain(txn *t, queue *q) {
  name_key prefix = partition_key(q->id, (respool_bytes){NULL, 0});
  bool any = q->n_lones > 0;
  cur c;
  cur_open(&c, t, DB_PARTITIONS);
  bool more = q->n_partitions && cur_seek(&c, name_key_bytes(&prefix));
  for (; more && !any && c.key.size > prefix.n &&
         !memcmp(c.key.data, prefix.b, prefix.n); more = cur_next(&c))
    any = has_items(t, q, c.key, c.value);
  cur_close(&c);
  if (!any && !t->rc) partitions_drop(t, q, SIZE_MAX);
  return any;
}

/* SPDX-License-Identifier: MIT */
/*
 * The counts of partitions, compared with their items: two lists of rows, which
 * are sorted.
 */
#include "lmdb/repair/check_partitions.h"

#include "base/array.h"
#include "lmdb/env/txn/cur.h"
#include "lmdb/partition/lones.h"
#include "lmdb/partition/set.h"
#include "lmdb/partition/turns.h"
#include "lmdb/record/blobs.h"
#include "lmdb/record/segments.h"
#include "record/fields.h"

#include <stdlib.h>
#include <string.h>

enum { ROW_READY, ROW_WAITING, ROW_LEASED, ROW_IN_TURN };

/* An item in a state. */
typedef struct row {
  uint64_t name; /* a hash */
  int priority, kind;
  uint64_t id; /* 0 of those that are leased; lone items have theirs */
} row;

typedef struct rows {
  row *of;
  size_t n, cap;
} rows;

typedef struct inquest {
  txn *t;
  queue *q;
  packer *out;
  arena memory;
  rows items, listed;
  uint64_t records, lones, in_turn, turns, due;
  name_key last; /* of a lone item */
} inquest;

#define ULL(n) ((unsigned long long)(n))

#define found(a, ...) pack_finding((a)->out, __VA_ARGS__)
static void add(inquest *a, rows *list, row r) {
  if (!array_grow(&list->of, list->n, 1, &list->cap, sizeof r))
    txn_fail(a->t, RESPOOL_NOMEM);
  else
    list->of[list->n++] = r;
}

/* ---- items -------------------------------------------------------------- */

static int kind_of(inquest *a, const line *l, uint64_t id) {
  place p;
  claim c;
  if (!claim_cover(a->t, l, id, &p, &c)) {
    if (l->space == SPACE_PARTED_SOLO)
      found(a, "item %llu of a partition of queue '%s' is alone without a "
            "claim", ULL(id), a->q->name);
    return ROW_READY;
  }
  if (c.state == CLAIM_PARKED && l->space == SPACE_PARTED)
    found(a, "item %llu of queue '%s' is parked among others", ULL(id),
          a->q->name);
  return c.state == CLAIM_LEASED ? ROW_LEASED
         : c.state == CLAIM_PARKED ? ROW_READY : ROW_WAITING;
}

/* The item itself, where it lies in a blob. */
static bool fetch(inquest *a, blob_ref r, item *i) {
  unpacker u;
  void *into = r.size <= (uint64_t)SIZE_MAX ? arena_alloc(&a->memory, r.size)
                                            : NULL;
  if (!into || !blob_get(a->t, r, into)) return false;
  unpacker_init(&u, into, r.size);
  return item_unpack(&u, i, &r);
}

static void note_items(inquest *a, const segment_cursor *w) {
  segment g;
  if (!segments_read(w, &g)) return; /* reported already */
  for (uint32_t i = 0; i < w->at.count; i++) {
    item it;
    blob_ref r;
    uint64_t id = w->at.first + i;
    if (!item_unpack(&g.items, &it, &r)) return;
    if (!bits_has(&w->unsettled, i) || (r.number && !fetch(a, r, &it)))
      continue;
    int kind = kind_of(a, &w->at.line, id);
    if (!it.partition.size)
      found(a, "item %llu in a space of partitions of queue '%s' has none",
            ULL(id), a->q->name);
    add(a, &a->items, (row){key_seed(it.partition), w->at.line.priority, kind,
                            kind == ROW_LEASED ? 0 : id});
  }
}

static void note_line(inquest *a, int space, int priority) {
  line l = {a->q->id, space, priority};
  segment_cursor w;
  segments_open(&w, a->t, &l, 0);
  while (segments_next(&w) && !a->t->rc) note_items(a, &w);
  segments_close(&w);
}

/* ---- records ------------------------------------------------------------ */

static void note_list(inquest *a, uint64_t name, const partition_line *l,
                      const id_list *list) {
  for (size_t i = 0; i < list->n; i++)
    for (uint64_t j = 0; j < list->runs[i].n; j++)
      add(a, &a->listed, (row){name, l->priority, ROW_READY,
                               list->runs[i].first + j});
}

static void note_stored(inquest *a, uint64_t name, const partition *p,
                        const partition_line *l) {
  ids_key from = {a->q->id, p->number, l->priority, 0, 0}, k;
  key start = ids_key_of(&from);
  id_list list;
  cur c;
  cur_open(&c, a->t, DB_PARTITION_ITEMS);
  bool more = cur_seek(&c, key_bytes(&start));
  for (; more && ids_key_read(c.key, &k) && k.queue == a->q->id &&
         k.partition == p->number && k.priority == l->priority;
       more = cur_next(&c)) {
    if (k.kind)
      add(a, &a->listed, (row){name, l->priority, ROW_WAITING, k.first});
    else if (ids_unpack(c.key, c.value, &a->memory, &list))
      found(a, "ids of a partition of queue '%s' are damaged", a->q->name);
    else if (ids_first(&list) != k.first || !l->more)
      found(a, "ids of a partition of queue '%s' lie where none are looked for",
            a->q->name);
    else
      note_list(a, name, l, &list);
  }
  cur_close(&c);
}

static void check_line(inquest *a, const partition *p,
                       const partition_line *l) {
  uint64_t name = key_seed(p->name);
  size_t before = a->listed.n;
  note_list(a, name, l, &l->head);
  note_stored(a, name, p, l);
  uint64_t ready = 0, waiting = 0;
  for (size_t i = before; i < a->listed.n; i++)
    if (a->listed.of[i].kind == ROW_READY)
      ready++;
    else
      waiting++;
  if (ready != l->ready || waiting != l->waiting)
    found(a, "a partition of queue '%s' counts %llu ready, %llu waiting; it "
          "lists %llu, %llu", a->q->name, ULL(l->ready), ULL(l->waiting),
          ULL(ready), ULL(waiting));
  for (uint64_t i = 0; i < l->leased; i++)
    add(a, &a->listed, (row){name, l->priority, ROW_LEASED, 0});
  a->in_turn += l->in_turn;
  if (l->ready && !l->in_turn && !p->due &&
      !line_is_blocked(a->t, a->q, p, l))
    found(a, "a partition of queue '%s' with ready items has no turn",
          a->q->name);
}

static void note_lone(inquest *a, const partition *p) {
  uint64_t name = key_seed(p->name);
  enum count state = partition_lone(a->t, a->q, p);
  if (state == COUNT_LEASED)
    add(a, &a->listed, (row){name, p->lone_priority, ROW_LEASED, 0});
  if (state != COUNT_READY) return;
  add(a, &a->listed, (row){name, p->lone_priority, ROW_READY, p->lone});
  add(a, &a->listed, (row){0, p->lone_priority, ROW_IN_TURN, p->lone});
}

static void check_partition(inquest *a, const cur *c, respool_bytes name) {
  partition p = {.name = name};
  respool_bytes v;
  a->records++;
  if (partition_unpack(c->key, c->value, &a->memory, &p)) {
    found(a, "a partition of queue '%s' is damaged: its checksum does not hold",
          a->q->name);
    return;
  }
  for (size_t i = 0; i < p.n_lines; i++) check_line(a, &p, &p.lines[i]);
  note_lone(a, &p);
  name_key k = partition_due_key(a->q->id, p.due, name);
  if (p.due && !txn_get(a->t, DB_PARTITION_DUE, name_key_bytes(&k), &v))
    found(a, "a partition of queue '%s' has no due time", a->q->name);
  a->due += p.due > 0;
}

static void check_records(inquest *a) {
  name_key start = partition_key(a->q->id, (respool_bytes){NULL, 0});
  cur c;
  cur_open(&c, a->t, DB_PARTITIONS);
  bool more = cur_seek(&c, name_key_bytes(&start));
  for (; more && c.key.size >= 4 && !memcmp(c.key.data, start.b, 4);
       more = cur_next(&c))
    check_partition(a, &c, (respool_bytes){(const char *)c.key.data + 4,
                                           c.key.size - 4});
  cur_close(&c);
}

static bool check_lone(void *arg, const lone *x) {
  inquest *a = arg;
  partition p = {.name = x->name, .lone = x->id, .lone_priority = x->priority};
  name_key k = partition_key(a->q->id, x->name);
  if (a->lones && k.n == a->last.n && !memcmp(k.b, a->last.b, k.n))
    found(a, "a partition of queue '%s' has two lone items", a->q->name);
  a->last = k;
  note_lone(a, &p);
  a->lones++;
  return true;
}

/* The items of a run, which may have ended, are those that the queue says. */
static void check_run(inquest *a, const lone_run *r) {
  run_walk w;
  uint64_t n = 0, outside = 0;
  run_walk_from(&w, a->t, a->q, r, (respool_bytes){NULL, 0});
  for (; w.more; run_walk_on(&w), n++)
    outside += w.here.id < r->first || w.here.id > r->last;
  run_walk_end(&w);
  if (!w.rc && (n != r->n || outside))
    found(a, "queue '%s' counts %llu lone items in a run; there are %llu, %llu "
          "of them with other ids", a->q->name, ULL(r->n), ULL(n),
          ULL(outside));
}

static void check_lones(inquest *a) {
  for (size_t i = 0; i < a->q->n_runs; i++) check_run(a, &a->q->runs[i]);
  if (lones_each(a->t, a->q, (respool_bytes){NULL, 0}, check_lone, a))
    found(a, "lone items of partitions of queue '%s' are damaged: their "
          "checksum does not hold", a->q->name);
  if (a->records + a->lones != a->q->n_partitions ||
      a->lones != a->q->n_lones)
    found(a, "queue '%s' counts %llu partitions, %llu of them lone items; "
          "there are %llu, %llu", a->q->name, ULL(a->q->n_partitions),
          ULL(a->q->n_lones), ULL(a->records + a->lones), ULL(a->lones));
}

/* ---- turns -------------------------------------------------------------- */

static bool is_current(inquest *a, int priority, const stored_turn *x) {
  partition p = {.name = x->name};
  respool_bytes v;
  name_key k = partition_key(a->q->id, x->name);
  if (!txn_get(a->t, DB_PARTITIONS, name_key_bytes(&k), &v) ||
      partition_unpack(name_key_bytes(&k), v, &a->memory, &p) ||
      p.number != x->number)
    return false;
  for (size_t i = 0; i < p.n_lines; i++)
    if (p.lines[i].priority == priority) return p.lines[i].in_turn;
  return false;
}

/* Turns of what has ended are left over. */
static void note_turn(inquest *a, int priority, const stored_turn *x) {
  line l = {a->q->id, SPACE_PARTED, priority};
  place at;
  claim c;
  if (!x->lone)
    a->turns += is_current(a, priority, x);
  else if (first_unsettled(a->t, &l, x->lone) == x->lone &&
           !claim_cover(a->t, &l, x->lone, &at, &c))
    add(a, &a->items, (row){0, priority, ROW_IN_TURN, x->lone});
}

static void check_turns(inquest *a) {
  key start = turn_key(a->q->id, 0, 0);
  uint32_t of;
  int priority;
  uint64_t number;
  unpacker u;
  stored_turn x;
  size_t n;
  cur c;
  cur_open(&c, a->t, DB_TURNS);
  bool more = cur_seek(&c, key_bytes(&start));
  for (; more && turn_key_read(c.key, &of, &priority, &number) &&
         of == a->q->id; more = cur_next(&c)) {
    if (!turns_open(c.key, c.value, &u, &n)) {
      found(a, "turns of queue '%s' are damaged", a->q->name);
      continue;
    }
    for (size_t i = 0; i < n && turn_unpack(&u, &x); i++)
      note_turn(a, priority, &x);
  }
  cur_close(&c);
  if (a->turns != a->in_turn)
    found(a, "queue '%s' has %llu turns of partitions, which count %llu",
          a->q->name, ULL(a->turns), ULL(a->in_turn));
}

/* ---- comparing ---------------------------------------------------------- */

static int compare(const void *x, const void *y) {
  const row *a = x, *b = y;
  if (a->name != b->name) return a->name < b->name ? -1 : 1;
  if (a->priority != b->priority) return a->priority - b->priority;
  if (a->kind != b->kind) return a->kind - b->kind;
  return a->id < b->id ? -1 : a->id > b->id;
}

static void sort(rows *list) {
  if (list->n) qsort(list->of, list->n, sizeof *list->of, compare);
}

static void check_rows(inquest *a) {
  static const char *const kinds[] = {"ready", "waiting", "leased", "in turn"};
  size_t i = 0, j = 0;
  sort(&a->items);
  sort(&a->listed);
  while (i < a->items.n || j < a->listed.n) {
    const row *x = i < a->items.n ? &a->items.of[i] : NULL;
    const row *y = j < a->listed.n ? &a->listed.of[j] : NULL;
    int order = !x ? 1 : !y ? -1 : compare(x, y);
    if (order < 0)
      found(a, "item %llu of queue '%s' is %s, and its partition does not say "
            "so", ULL(x->id), a->q->name, kinds[x->kind]);
    if (order > 0)
      found(a, "a partition of queue '%s' says that item %llu is %s",
            a->q->name, ULL(y->id), kinds[y->kind]);
    i += order <= 0;
    j += order >= 0;
  }
}

void check_partitions(txn *t, queue *q, packer *findings) {
  inquest a = {.t = t, .q = q, .out = findings};
  arena_init(&a.memory);
  for (size_t i = 0; i < q->n_priorities; i++) {
    note_line(&a, SPACE_PARTED, q->priorities[i].priority);
    note_line(&a, SPACE_PARTED_SOLO, q->priorities[i].priority);
  }
  check_records(&a);
  check_lones(&a);
  check_turns(&a);
  check_rows(&a);
  free(a.items.of);
  free(a.listed.of);
  arena_free(&a.memory);
}

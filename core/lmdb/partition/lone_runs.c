/* SPDX-License-Identifier: MIT */
/*
 * Runs of lone items; see lone_runs.h. A run lies in records of about a page,
 * under its number and the first name in each. An item in it is
 *
 *   priority 1, id 8, length of the name 1, name
 *
 * The queue's record lists the runs in the order of their ids. What is added is
 * a run by itself, or one with the last runs, where those are about as small.
 */
#include "lmdb/partition/lone_runs.h"

#include "base/array.h"
#include "lmdb/partition/set.h"
#include "lmdb/queue/state.h"
#include "lmdb/record/segments.h"
#include "record/fields.h"

#include <stdlib.h>
#include <string.h>

#define PART_BYTES 4000   /* so that LMDB puts it on a page of its own */
#define RUN_ITEMS 32768   /* that are merged at most */
#define MERGED 4          /* runs that become one */
#define ENDED_ITEMS 4096  /* more than those that are there, before a run is
                             written anew without them */
#define HEAD 10           /* of an item */

int names_compare(respool_bytes a, respool_bytes b) {
  size_t n = a.size < b.size ? a.size : b.size;
  int order = n ? memcmp(a.data, b.data, n) : 0;
  return order ? order : (a.size > b.size) - (a.size < b.size);
}

bool lone_is_there(txn *t, const queue *q, const lone *x) {
  line l = {q->id, SPACE_PARTED, x->priority};
  return count_unsettled(t, &l, x->id, x->id) > 0;
}

static uint64_t read_id(const uint8_t *b) {
  uint64_t id = 0;
  for (int i = 0; i < 8; i++) id = id << 8 | b[i];
  return id;
}

static void pack_lone(packer *out, const lone *x) {
  uint8_t *b = packer_grow(out, HEAD + x->name.size);
  if (!b) return;
  b[0] = (uint8_t)x->priority;
  for (int i = 0; i < 8; i++) b[1 + i] = (uint8_t)(x->id >> (56 - 8 * i));
  b[HEAD - 1] = (uint8_t)x->name.size;
  memcpy(b + HEAD, x->name.data, x->name.size);
}

/* ---- walking ------------------------------------------------------------ */

static name_key part_key(const queue *q, uint64_t run, respool_bytes name) {
  return lone_key(q->id, (int64_t)run, name);
}

/* Reads the item at the walk's place; at its record's end there is none. */
static void look(run_walk *w) {
  size_t left = (size_t)(w->end - w->at);
  w->more = left > HEAD && w->at[HEAD - 1] > 0 &&
            left >= (size_t)HEAD + w->at[HEAD - 1];
  if (left && !w->more) w->rc = RESPOOL_CORRUPT;
  if (!w->more) return;
  w->here = (lone){{w->at + HEAD, w->at[HEAD - 1]}, read_id(w->at + 1),
                   w->at[0], false};
  w->size = HEAD + w->here.name.size;
}

static void go_on(run_walk *w) {
  w->at += w->size;
  look(w);
}

/* The record under the cursor, if that is of the run. */
static bool open_part(run_walk *w, bool found) {
  name_key own = part_key(w->q, w->run, (respool_bytes){NULL, 0});
  unpacker u;
  w->more = false;
  if (!found || w->rc || w->c.key.size <= own.n ||
      memcmp(w->c.key.data, own.b, own.n))
    return false;
  record_open(&u, w->c.value, 1, record_seed(DB_LONES, w->c.key));
  respool_bytes items = unpack_bytes(&u);
  w->rc = u.rc;
  if (u.rc) return false;
  w->at = items.data;
  w->end = w->at + items.size;
  look(w);
  return true;
}

static void pass_names(run_walk *w, respool_bytes upto) {
  while (w->more && names_compare(w->here.name, upto) < 0) go_on(w);
}

static void find_part(run_walk *w, respool_bytes name) {
  name_key k = part_key(w->q, w->run, name);
  const void *was = w->c.value.data;
  bool found = cur_floor(&w->c, name_key_bytes(&k));
  bool same = found && was && w->c.value.data == was;
  if (!same && open_part(w, found)) pass_names(w, name);
  if (w->more || w->rc) return;
  found = found ? cur_next(&w->c) : cur_seek(&w->c, name_key_bytes(&k));
  if (open_part(w, found)) pass_names(w, name);
}

void run_walk_to(run_walk *w, respool_bytes name) {
  pass_names(w, name);
  if (!w->more && !w->rc) find_part(w, name);
}

void run_walk_from(run_walk *w, txn *t, const queue *q, const lone_run *r,
                   respool_bytes from) {
  memset(w, 0, sizeof *w);
  w->q = q;
  w->run = r->number;
  cur_open(&w->c, t, DB_LONES);
  find_part(w, from);
}

void run_walk_on(run_walk *w) {
  go_on(w);
  if (!w->more && !w->rc) open_part(w, cur_next(&w->c));
}

void run_walk_end(run_walk *w) {
  cur_close(&w->c);
}

/* ---- lists of items ----------------------------------------------------- */

/* Items of some runs, to be written as one. */
typedef struct merged {
  txn *t;
  queue *q;
  arena memory;
  lone *of;
  size_t n;
} merged;

static lone *make_list(merged *m, size_t n) {
  lone *list = arena_alloc(&m->memory, (n + 1) * sizeof *list);
  if (!list) txn_fail(m->t, RESPOOL_NOMEM);
  return list;
}

/* Merges sorted items of a run. Of those with one name only the newest can be
   there still. */
static void merge_list(merged *m, const lone *more, size_t n) {
  lone *list = make_list(m, m->n + n);
  size_t i = 0, j = 0, k = 0;
  if (!list) return;
  while (i < m->n && j < n) {
    int order = names_compare(m->of[i].name, more[j].name);
    bool first = order < 0 || (order == 0 && m->of[i].id > more[j].id);
    list[k++] = first ? m->of[i] : more[j];
    i += order <= 0;
    j += order >= 0;
  }
  while (i < m->n) list[k++] = m->of[i++];
  while (j < n) list[k++] = more[j++];
  m->of = list;
  m->n = k;
}

/* Copies the record at which a walk stands, and walks through the copy. */
static void copy_part(merged *m, run_walk *w) {
  respool_bytes part = {w->at, (size_t)(w->end - w->at)}, copy = {NULL, 0};
  txn_fail(m->t, arena_copy(&m->memory, part, &copy));
  w->at = copy.data;
  w->end = w->at + copy.size;
  look(w);
}

/* Returns CORRUPT, and has merged nothing, if the run cannot be read. */
static int merge_run(merged *m, const lone_run *r) {
  run_walk w;
  size_t n = 0;
  lone *list = make_list(m, (size_t)r->n);
  if (!list) return RESPOOL_NOMEM;
  run_walk_from(&w, m->t, m->q, r, (respool_bytes){NULL, 0});
  while (w.more && n < r->n && !m->t->rc) {
    for (copy_part(m, &w); w.more && n < r->n; go_on(&w)) list[n++] = w.here;
    if (!w.rc && !w.more) open_part(&w, cur_next(&w.c));
  }
  int rc = w.rc;
  if (!rc && (w.more || n < r->n)) rc = RESPOOL_CORRUPT;
  run_walk_end(&w);
  if (!rc && !m->t->rc) merge_list(m, list, n);
  return rc;
}

/* Leaves out items that are older than all that are there of their priority. */
static void leave_out_older(merged *m) {
  uint64_t oldest[RESPOOL_PRIORITIES];
  size_t n = 0;
  for (int i = 0; i < RESPOOL_PRIORITIES; i++) oldest[i] = UINT64_MAX;
  for (size_t i = 0; i < m->q->n_priorities; i++) {
    line l = {m->q->id, SPACE_PARTED, m->q->priorities[i].priority};
    oldest[l.priority] = first_unsettled(m->t, &l, 0);
  }
  for (size_t i = 0; i < m->n; i++)
    if (m->of[i].id >= oldest[m->of[i].priority]) m->of[n++] = m->of[i];
  m->n = n;
}

static void leave_out_ended(merged *m) {
  size_t n = 0;
  for (size_t i = 0; i < m->n && !m->t->rc; i++)
    if (lone_is_there(m->t, m->q, &m->of[i])) m->of[n++] = m->of[i];
  m->n = n;
}

/* ---- writing ------------------------------------------------------------ */

static void delete_run(txn *t, queue *q, uint64_t number) {
  name_key own = part_key(q, number, (respool_bytes){NULL, 0}), k;
  respool_bytes found, v;
  while (txn_seek(t, DB_LONES, name_key_bytes(&own), &found, &v) &&
         found.size > own.n && !memcmp(found.data, own.b, own.n)) {
    memcpy(k.b, found.data, found.size);
    k.n = found.size;
    txn_del(t, DB_LONES, name_key_bytes(&k));
  }
}

/* Writes items from `i` on to a record, and returns the next. */
static size_t put_part(merged *m, uint64_t number, size_t i, packer *items,
                       packer *record) {
  name_key k = part_key(m->q, number, m->of[i].name);
  packer_reset(items);
  packer_reset(record);
  while (i < m->n && items->len + HEAD + m->of[i].name.size <= PART_BYTES)
    pack_lone(items, &m->of[i++]);
  record_begin(record, 1);
  pack_bytes(record, items->data, items->len);
  txn_fail(m->t, items->rc);
  record_put(m->t, DB_LONES, name_key_bytes(&k), record);
  return i;
}

static void put_items(merged *m, uint64_t number) {
  packer items, record;
  packer_init(&items);
  packer_init(&record);
  for (size_t i = 0; i < m->n && !m->t->rc;)
    i = put_part(m, number, i, &items, &record);
  packer_free(&items);
  packer_free(&record);
}

static lone_run run_of(const merged *m) {
  lone_run r = {.first = UINT64_MAX, .n = m->n};
  for (size_t i = 0; i < m->n; i++) {
    if (m->of[i].id < r.first) r.first = m->of[i].id;
    if (m->of[i].id > r.last) r.last = m->of[i].id;
  }
  for (size_t i = 0; i < m->q->n_runs; i++)
    if (m->q->runs[i].number >= r.number)
      r.number = m->q->runs[i].number + 1;
  return r;
}

/* The merged items take the place of `n` runs from the i-th on. */
static void replace_runs(merged *m, size_t i, size_t n) {
  queue *q = m->q;
  lone_run r = run_of(m);
  size_t more = m->n > 0;
  if (m->t->rc) return;
  if (!array_grow(&q->runs, q->n_runs, 1, &q->cap_runs, sizeof *q->runs)) {
    txn_fail(m->t, RESPOOL_NOMEM);
    return;
  }
  for (size_t j = i; j < i + n; j++) delete_run(m->t, q, q->runs[j].number);
  put_items(m, r.number);
  memmove(q->runs + i + more, q->runs + i + n,
          (q->n_runs - i - n) * sizeof *q->runs);
  q->n_runs = q->n_runs - n + more;
  if (more) q->runs[i] = r;
  queue_changed(m->t, q);
}

/* Where the runs before the i-th begin that are to be merged with `n` items:
   at least three, of less than four times as many each. */
static size_t runs_to_merge(const queue *q, size_t i, uint64_t n) {
  size_t from = i;
  uint64_t sum = n;
  while (from > 0 && q->runs[from - 1].n < MERGED * n &&
         sum + q->runs[from - 1].n <= RUN_ITEMS)
    sum += q->runs[--from].n;
  return i - from >= MERGED - 1 ? from : i;
}

void runs_add(txn *t, queue *q, const lone *list, size_t n) {
  merged m = {.t = t, .q = q};
  size_t i = q->n_runs, from;
  if (!n || t->rc) return;
  arena_init(&m.memory);
  merge_list(&m, list, n);
  while ((from = runs_to_merge(q, i, m.n)) < i && !t->rc)
    while (i > from && !t->rc) {
      int rc = merge_run(&m, &q->runs[--i]);
      if (rc) partition_unread(t, q, rc);
    }
  if (i < q->n_runs && !t->rc) leave_out_older(&m);
  replace_runs(&m, i, q->n_runs - i);
  arena_free(&m.memory);
}

/* ---- what has ended ----------------------------------------------------- */

static bool is_over(txn *t, const queue *q, const lone_run *r) {
  for (size_t i = 0; i < q->n_priorities && q->n_lones; i++) {
    line l = {q->id, SPACE_PARTED, q->priorities[i].priority};
    if (first_unsettled(t, &l, r->first) <= r->last) return false;
  }
  return !t->rc;
}

/* Removes the oldest run. */
static void remove_run(txn *t, queue *q) {
  delete_run(t, q, q->runs->number);
  memmove(q->runs, q->runs + 1, --q->n_runs * sizeof *q->runs);
  queue_changed(t, q);
}

/* Writes a run and its neighbours, as far as they fit, anew as one. They stay
   as they are where one of them is damaged. */
static void compact(txn *t, queue *q, size_t i) {
  merged m = {.t = t, .q = q};
  uint64_t sum = q->runs[i].n;
  int rc = 0;
  size_t end = i + 1;
  for (; i > 0 && sum + q->runs[i - 1].n <= RUN_ITEMS; i--)
    sum += q->runs[i - 1].n;
  for (; end < q->n_runs && sum + q->runs[end].n <= RUN_ITEMS; end++)
    sum += q->runs[end].n;
  arena_init(&m.memory);
  for (size_t j = i; j < end && !rc && !t->rc; j++)
    rc = merge_run(&m, &q->runs[j]);
  if (!rc) {
    leave_out_ended(&m);
    replace_runs(&m, i, end - i);
  }
  arena_free(&m.memory);
}

/* Where all have ended, none is counted any more: of those that could not be
   read nobody knew that they were lone. */
static void end_count(txn *t, queue *q) {
  if (q->n_runs || !q->n_lones || t->rc) return;
  q->n_partitions -= q->n_lones;
  q->n_lones = 0;
  queue_changed(t, q);
}

void runs_trim(txn *t, queue *q) {
  uint64_t items = 0;
  while (q->n_runs && is_over(t, q, q->runs)) remove_run(t, q);
  end_count(t, q);
  for (size_t i = 0; i < q->n_runs; i++) items += q->runs[i].n;
  if (items > 2 * q->n_lones + ENDED_ITEMS && q->n_lones && !t->rc)
    compact(t, q, txn_number(t) % q->n_runs);
}

/* SPDX-License-Identifier: MIT */
/*
 * Records of partitions; see partition_record.h. A list of ids is stored as
 * [solo, gap, length, gap, length, ...]: how far a run begins behind the end of
 * the one before, and how many ids it has. Lists lie in an array of their own,
 * as the checksum's place is that of an array with few elements.
 */
#include "lmdb/record/partition_record.h"

#include "base/array.h"
#include "record/fields.h"

#include <stdlib.h>
#include <string.h>

void partition_set_free(queue *q) {
  partition_set *s = q->parted;
  if (!s) return;
  arena_free(&s->memory);
  free(s->buckets);
  free(s->given);
  packer_free(&s->record);
  free(s);
  q->parted = NULL;
}

void partition_unread(txn *t, const queue *q, int rc) {
  if (rc == RESPOOL_NOMEM) txn_fail(t, rc);
  if (t->rc) return;
  t->changes++;
  t->rc = fail(RESPOOL_CORRUPT, "a record of the partitions of queue '%.120s' "
               "is damaged; a repair makes it anew", q->name);
}

/* ---- lists of ids -------------------------------------------------------- */

/* Room for `more` runs behind those that are there. */
static bool make_room(id_list *l, arena *a, size_t more, int *rc) {
  if (l->n + more <= l->cap) return true;
  size_t cap = l->cap ? 2 * (l->cap + more) : more;
  id_run *runs = arena_alloc(a, cap * sizeof *runs);
  if (!runs) {
    *rc = RESPOOL_NOMEM;
    return false;
  }
  if (l->n) memcpy(runs, l->runs, l->n * sizeof *runs);
  l->runs = runs;
  l->cap = cap;
  return true;
}

bool ids_add(id_list *l, arena *a, uint64_t first, uint64_t n, int *rc) {
  id_run *last = l->n ? &l->runs[l->n - 1] : NULL;
  if (last && last->first + last->n == first) {
    last->n += n;
    return true;
  }
  if (l->n >= LIST_RUNS || !make_room(l, a, 1, rc)) return false;
  l->runs[l->n++] = (id_run){first, n};
  return true;
}

uint64_t ids_count(const id_list *l) {
  uint64_t n = 0;
  for (size_t i = 0; i < l->n; i++) n += l->runs[i].n;
  return n;
}

uint64_t ids_first(const id_list *l) {
  return l->n ? l->runs[0].first : UINT64_MAX;
}

uint64_t ids_last(const id_list *l) {
  return l->n ? l->runs[l->n - 1].first + l->runs[l->n - 1].n - 1 : 0;
}

static void drop_run(id_list *l, size_t i) {
  memmove(l->runs + i, l->runs + i + 1, (l->n - i - 1) * sizeof *l->runs);
  l->n--;
}

uint64_t ids_take(id_list *l) {
  uint64_t id = l->runs[0].first++;
  if (--l->runs[0].n == 0) drop_run(l, 0);
  return id;
}

/* The run that holds an id; l->n: none does. */
static size_t find_run(const id_list *l, uint64_t id) {
  for (size_t i = 0; i < l->n; i++)
    if (id >= l->runs[i].first && id - l->runs[i].first < l->runs[i].n)
      return i;
  return l->n;
}

/* Parts run `i` into those ids before `id` and those behind it. */
static bool part_run(id_list *l, arena *a, size_t i, uint64_t id, int *rc) {
  if (!make_room(l, a, 1, rc)) return false;
  id_run *r = &l->runs[i];
  memmove(r + 1, r, (l->n - i) * sizeof *r);
  l->n++;
  r[1].n = r->first + r->n - id - 1;
  r[1].first = id + 1;
  r->n = id - r->first;
  return true;
}

bool ids_remove(id_list *l, arena *a, uint64_t id, int *rc) {
  size_t i = find_run(l, id);
  if (i == l->n) return false;
  id_run *r = &l->runs[i];
  if (id > r->first && id < r->first + r->n - 1)
    return part_run(l, a, i, id, rc);
  if (id == r->first) r->first++;
  if (--r->n == 0) drop_run(l, i);
  return true;
}

int ids_split(id_list *l, arena *a, uint64_t id, id_list *rest) {
  int rc = 0;
  size_t i = 0;
  *rest = (id_list){.solo = l->solo};
  while (i < l->n && l->runs[i].first + l->runs[i].n <= id) i++;
  if (!make_room(rest, a, l->n - i + 1, &rc)) return rc;
  if (i == l->n) return 0;
  rest->n = l->n - i;
  memcpy(rest->runs, l->runs + i, rest->n * sizeof *rest->runs);
  if (rest->runs[0].first < id) { /* the run lies on both sides */
    l->runs[i].n = id - l->runs[i].first;
    rest->runs[0].n -= l->runs[i].n;
    rest->runs[0].first = id;
    i++;
  }
  l->n = i;
  return 0;
}

/* ---- lists, stored ------------------------------------------------------- */

static void list_pack(packer *p, const id_list *l) {
  uint64_t end = 0;
  pack_array(p, 1 + 2 * l->n);
  pack_bool(p, l->solo);
  for (size_t i = 0; i < l->n; i++) {
    pack_uint(p, l->runs[i].first - end);
    pack_uint(p, l->runs[i].n);
    end = l->runs[i].first + l->runs[i].n;
  }
}

static void list_unpack(unpacker *u, arena *a, id_list *l) {
  uint64_t end = 0;
  size_t n = unpack_array(u);
  *l = (id_list){.n = 0};
  unpack_expect(u, n % 2 == 1);
  l->solo = unpack_bool(u);
  if (u->rc || n < 3) return;
  if (!make_room(l, a, n / 2, &u->rc)) return;
  for (size_t i = 0; i < n / 2; i++) {
    uint64_t gap = unpack_uint(u), length = unpack_uint(u);
    unpack_expect(u, length > 0 && gap < UINT64_MAX - end &&
                     length < UINT64_MAX - end - gap);
    l->runs[l->n++] = (id_run){end + gap, length};
    end += gap + length;
  }
  if (u->rc) l->n = 0;
}

void ids_pack(packer *p, const id_list *l) {
  record_begin(p, 1);
  list_pack(p, l);
}

int ids_unpack(respool_bytes k, respool_bytes b, arena *a, id_list *l) {
  unpacker u;
  record_open(&u, b, 1, record_seed(DB_PARTITION_ITEMS, k));
  list_unpack(&u, a, l);
  return u.rc;
}

/* ---- a partition, stored ------------------------------------------------- */

static void line_pack(packer *p, const partition_line *l) {
  pack_array(p, 7);
  pack_int(p, l->priority);
  pack_uint(p, l->ready);
  pack_uint(p, l->leased);
  pack_uint(p, l->waiting);
  pack_bool(p, l->in_turn);
  pack_bool(p, l->more);
  list_pack(p, &l->head);
}

static void line_unpack(unpacker *u, arena *a, partition_line *l) {
  unpack_expect(u, unpack_array(u) == 7);
  l->priority = unpack_priority(u);
  l->ready = unpack_uint(u);
  l->leased = unpack_uint(u);
  l->waiting = unpack_uint(u);
  l->in_turn = unpack_bool(u);
  l->more = unpack_bool(u);
  list_unpack(u, a, &l->head);
}

static bool line_is_empty(const partition_line *l) {
  return !l->ready && !l->leased && !l->waiting && !l->in_turn;
}

void partition_pack(packer *p, const partition *x) {
  size_t n = 0;
  record_begin(p, 6);
  pack_uint(p, x->number);
  pack_uint(p, x->lone);
  pack_int(p, x->lone_priority);
  pack_int(p, x->due);
  if (x->flow)
    flow_pack(p, x->flow);
  else
    pack_null(p);
  for (size_t i = 0; i < x->n_lines; i++) n += !line_is_empty(&x->lines[i]);
  pack_array(p, n);
  for (size_t i = 0; i < x->n_lines; i++)
    if (!line_is_empty(&x->lines[i])) line_pack(p, &x->lines[i]);
}

static void lines_unpack(unpacker *u, arena *a, partition *x) {
  size_t n = unpack_array(u);
  unpack_expect(u, n <= RESPOOL_PRIORITIES);
  if (u->rc || !n) return;
  x->lines = arena_alloc(a, n * sizeof *x->lines);
  if (!x->lines) {
    u->rc = RESPOOL_NOMEM;
    return;
  }
  for (; x->n_lines < n; x->n_lines++) line_unpack(u, a, &x->lines[x->n_lines]);
  x->cap_lines = n;
}

int partition_unpack(respool_bytes k, respool_bytes b, arena *a,
                     partition *x) {
  unpacker u;
  record_open(&u, b, 6, record_seed(DB_PARTITIONS, k));
  x->number = unpack_uint(&u);
  x->lone = unpack_uint(&u);
  x->lone_priority = unpack_priority(&u);
  x->due = unpack_int(&u);
  x->flow = NULL;
  x->lines = NULL;
  x->n_lines = x->cap_lines = 0;
  if (!unpack_null(&u) && !u.rc) {
    x->flow = arena_alloc(a, sizeof *x->flow);
    if (!x->flow) return RESPOOL_NOMEM;
    flow_unpack(&u, x->flow);
  }
  lines_unpack(&u, a, x);
  return u.rc;
}

/* ---- turns, stored ------------------------------------------------------- */

void turn_pack(packer *p, const partition_turn *x) {
  if (!x->of) {
    pack_uint(p, x->lone);
    return;
  }
  pack_array(p, 2);
  pack_uint(p, x->of->number);
  pack_bytes(p, x->of->name.data, x->of->name.size);
}

bool turns_open(respool_bytes k, respool_bytes b, unpacker *u, size_t *n) {
  record_open(u, b, 1, record_seed(DB_TURNS, k));
  *n = unpack_array(u);
  return u->rc == 0;
}

bool turn_unpack(unpacker *u, stored_turn *x) {
  *x = (stored_turn){.lone = 0};
  if (unpack_peek(u) == CBOR_UINT) {
    x->lone = unpack_uint(u);
    return u->rc == 0 && x->lone > 0;
  }
  unpack_expect(u, unpack_array(u) == 2);
  x->number = unpack_uint(u);
  x->name = unpack_bytes(u);
  return u->rc == 0;
}

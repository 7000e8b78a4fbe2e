/* SPDX-License-Identifier: MIT */
/*
 * Lone items; see lones.h. A group holds the names from its key up to the key
 * of the next group. An item in it is
 *
 *   priority 1, id 8, length of the name 1, name
 *
 * and they are sorted by their names. A list of names is worked off group by
 * group, each read and written once.
 */
#include "lmdb/partition/lones.h"

#include "lmdb/env/txn/cur.h"
#include "lmdb/queue/state.h"
#include "record/fields.h"

#include <stdlib.h>
#include <string.h>

#define GROUP_BYTES 1300 /* so that LMDB puts three on a page */
#define HEAD 10          /* of an item */

/* ---- the items of a group ----------------------------------------------- */

/* Where a walk over items stands, and the item there. */
typedef struct walk {
  const uint8_t *at, *end;
  lone here;
  size_t size; /* of the item as it is stored; 0: at the end */
  bool sound;
} walk;

static uint64_t read_id(const uint8_t *b) {
  uint64_t id = 0;
  for (int i = 0; i < 8; i++) id = id << 8 | b[i];
  return id;
}

/* Reads the item at the walk's place. */
static void look(walk *w) {
  size_t left = (size_t)(w->end - w->at);
  w->size = 0;
  if (!left) return;
  w->sound = left > HEAD && left >= (size_t)HEAD + w->at[HEAD - 1] &&
             w->at[HEAD - 1] > 0;
  if (!w->sound) return;
  w->here = (lone){{w->at + HEAD, w->at[HEAD - 1]}, read_id(w->at + 1),
                   w->at[0], false};
  w->size = HEAD + w->here.name.size;
}

static void walk_from(walk *w, respool_bytes items) {
  *w = (walk){.at = items.data, .sound = true};
  w->end = w->at + items.size;
  look(w);
}

static void go_on(walk *w) {
  w->at += w->size;
  look(w);
}

static void pack_lone(packer *out, const lone *x) {
  uint8_t *b = packer_grow(out, HEAD + x->name.size);
  if (!b) return;
  b[0] = (uint8_t)x->priority;
  for (int i = 0; i < 8; i++) b[1 + i] = (uint8_t)(x->id >> (56 - 8 * i));
  b[HEAD - 1] = (uint8_t)x->name.size;
  memcpy(b + HEAD, x->name.data, x->name.size);
}

static int compare(respool_bytes a, respool_bytes b) {
  size_t n = a.size < b.size ? a.size : b.size;
  int order = memcmp(a.data, b.data, n);
  return order ? order : (a.size > b.size) - (a.size < b.size);
}

/* ---- sorting ------------------------------------------------------------ */

static int order_of(const lone *a, const lone *b) {
  int order = compare(a->name, b->name);
  return order ? order : (a->id > b->id) - (a->id < b->id);
}

static int by_name(const void *a, const void *b) {
  return order_of(*(lone *const *)a, *(lone *const *)b);
}

void lones_sort(lone **list, size_t n) {
  for (size_t i = 1; i < n; i++)
    if (order_of(list[i - 1], list[i]) > 0) {
      qsort(list, n, sizeof *list, by_name);
      return;
    }
}

/* ---- groups ------------------------------------------------------------- */

typedef struct group {
  name_key key;  /* n 0: it is not stored */
  name_key next; /* of the next group; n 0: there is none */
  packer copy;   /* of the record */
  respool_bytes items;
} group;

static respool_bytes name_of(const name_key *k) {
  return (respool_bytes){k->b + 4, k->n - 4};
}

static bool read_key(const queue *q, respool_bytes found, name_key *k) {
  name_key own = partition_key(q->id, (respool_bytes){NULL, 0});
  if (found.size <= own.n || found.size > sizeof k->b ||
      memcmp(found.data, own.b, own.n))
    return false;
  memcpy(k->b, found.data, found.size);
  k->n = found.size;
  return true;
}

static int open_items(respool_bytes k, respool_bytes stored,
                      respool_bytes *items) {
  unpacker u;
  record_open(&u, stored, 1, record_seed(DB_LONES, k));
  *items = unpack_bytes(&u);
  return u.rc;
}

static void read_group(txn *t, const queue *q, respool_bytes v, group *g) {
  packer_reset(&g->copy);
  pack_raw(&g->copy, v.data, v.size);
  txn_fail(t, g->copy.rc);
  if (t->rc) return;
  int rc = open_items(name_key_bytes(&g->key),
                      (respool_bytes){g->copy.data, g->copy.len}, &g->items);
  if (rc) partition_unread(t, q, rc);
}

/* The group to which a name belongs; before the first one, that. */
static void find_group(txn *t, const queue *q, respool_bytes name, group *g) {
  name_key from = partition_key(q->id, name);
  cur c;
  g->key.n = g->next.n = 0;
  g->items.size = 0;
  cur_open(&c, t, DB_LONES);
  bool there = (cur_floor(&c, name_key_bytes(&from)) &&
                read_key(q, c.key, &g->key)) ||
               (cur_seek(&c, name_key_bytes(&from)) &&
                read_key(q, c.key, &g->key));
  if (there) read_group(t, q, c.value, g);
  if (there && cur_next(&c)) read_key(q, c.key, &g->next);
  cur_close(&c);
}

static void put_items(txn *t, const name_key *k, respool_bytes items,
                      packer *record) {
  packer_reset(record);
  record_begin(record, 1);
  pack_bytes(record, items.data, items.size);
  record_put(t, DB_LONES, name_key_bytes(k), record);
}

/* How many bytes of items the next of `left` records of equal size gets. */
static size_t piece_of(respool_bytes items, size_t left) {
  size_t size = 0, most = items.size / left;
  walk w;
  for (walk_from(&w, items); w.size && (left == 1 || size < most); go_on(&w))
    size += w.size;
  return size;
}

static name_key first_key(const queue *q, const group *g,
                          respool_bytes items) {
  const uint8_t *at = items.data;
  respool_bytes name = {at + HEAD, at[HEAD - 1]};
  return g && compare(name_of(&g->key), name) <= 0
             ? g->key /* it reaches down to there still */
             : partition_key(q->id, name);
}

/* Stores the items of a group instead of those that it had: in one record, or
   in several. */
static void put_group(txn *t, const queue *q, const group *g,
                      respool_bytes items, packer *record) {
  size_t left = (items.size + GROUP_BYTES - 1) / GROUP_BYTES;
  name_key k = g->key;
  if (left) k = first_key(q, g->key.n ? g : NULL, items);
  if (g->key.n && (!left || compare(name_of(&k), name_of(&g->key))))
    txn_del(t, DB_LONES, name_key_bytes(&g->key));
  while (items.size) {
    size_t n = piece_of(items, left--);
    put_items(t, &k, (respool_bytes){items.data, n}, record);
    items.data = (const uint8_t *)items.data + n;
    items.size -= n;
    if (items.size) k = first_key(q, NULL, items);
  }
}

/* ---- merging ------------------------------------------------------------ */

/* A sorted list that is worked off, and what it makes of a group. */
typedef struct merge {
  txn *t;
  queue *q;
  bool removes;
  lone **list;
  size_t n, at;
  group g;
  packer items, record;
} merge;

static bool belongs(const merge *m) {
  return m->at < m->n &&
         (!m->g.next.n ||
          compare(m->list[m->at]->name, name_of(&m->g.next)) < 0);
}

/* Goes over the items of the group and those of the list that belong to it;
   true when that changes it. */
static bool merge_group(merge *m) {
  const uint8_t *from = m->g.items.data; /* not copied yet */
  bool changes = false;
  walk w;
  packer_reset(&m->items);
  for (walk_from(&w, m->g.items); belongs(m) && w.sound;) {
    lone *x = m->list[m->at];
    int order = w.size ? compare(w.here.name, x->name) : 1;
    if (order < 0) {
      go_on(&w);
      continue;
    }
    m->at++;
    x->found = order == 0 && (!m->removes || w.here.id == x->id);
    if (x->found != m->removes) continue;
    changes = true;
    pack_raw(&m->items, from, (size_t)(w.at - from));
    if (m->removes)
      go_on(&w);
    else
      pack_lone(&m->items, x);
    from = w.at;
  }
  pack_raw(&m->items, from, (size_t)(w.end - from));
  if (!w.sound) partition_unread(m->t, m->q, RESPOOL_CORRUPT);
  return changes;
}

static void work_off(txn *t, queue *q, lone **list, size_t n, bool removes) {
  merge m = {.t = t, .q = q, .removes = removes, .list = list, .n = n};
  packer_init(&m.g.copy);
  packer_init(&m.items);
  packer_init(&m.record);
  while (m.at < n && !t->rc) {
    find_group(t, q, list[m.at]->name, &m.g);
    bool changes = !t->rc && merge_group(&m);
    txn_fail(t, m.items.rc);
    respool_bytes items = {m.items.data, m.items.len};
    if (changes && !t->rc) put_group(t, q, &m.g, items, &m.record);
  }
  packer_free(&m.g.copy);
  packer_free(&m.items);
  packer_free(&m.record);
  queue_changed(t, q);
}

void lones_add(txn *t, queue *q, lone **list, size_t n) {
  work_off(t, q, list, n, false);
  for (size_t i = 0; i < n; i++) q->n_lones += !list[i]->found;
}

void lones_remove(txn *t, queue *q, lone **list, size_t n) {
  work_off(t, q, list, n, true);
  for (size_t i = 0; i < n; i++) q->n_lones -= list[i]->found;
}

/* ---- looking ------------------------------------------------------------ */

bool lone_find(txn *t, queue *q, respool_bytes name, lone *found) {
  group g;
  walk w;
  int order = -1;
  packer_init(&g.copy);
  find_group(t, q, name, &g);
  for (walk_from(&w, g.items); !t->rc && w.size; go_on(&w))
    if ((order = compare(w.here.name, name)) >= 0) break;
  if (!w.sound) partition_unread(t, q, RESPOOL_CORRUPT);
  *found = w.here;
  found->name = name;
  packer_free(&g.copy);
  return !t->rc && order == 0;
}

int lones_each(txn *t, const queue *q, respool_bytes after,
               bool (*each)(void *arg, const lone *x), void *arg) {
  name_key k = partition_key(q->id, after);
  respool_bytes items;
  bool goes_on = true;
  int rc = 0;
  walk w;
  cur c;
  cur_open(&c, t, DB_LONES);
  bool more = after.size && cur_floor(&c, name_key_bytes(&k)) &&
              c.key.size > 4 && !memcmp(c.key.data, k.b, 4);
  if (!more) more = cur_seek(&c, name_key_bytes(&k));
  for (; more && goes_on && !rc && read_key(q, c.key, &k);
       more = cur_next(&c)) {
    rc = open_items(c.key, c.value, &items);
    for (walk_from(&w, items); !rc && w.size && goes_on; go_on(&w))
      if (!after.size || compare(w.here.name, after) > 0)
        goes_on = each(arg, &w.here);
    if (!rc && !w.sound) rc = RESPOOL_CORRUPT;
  }
  cur_close(&c);
  return rc;
}

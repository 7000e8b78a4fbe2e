/* SPDX-License-Identifier: MIT */
/*
 * The ids of a line of a partition: those that are ready, in rising order, the
 * first ones in the partition's record and the others in lists of their own;
 * and those that wait, each by itself.
 */
#include "lmdb/env/txn/cur.h"
#include "lmdb/partition/line.h"

enum { KIND_READY, KIND_WAITING };

/* ---- ids that are ready ------------------------------------------------- */

static key list_key(const queue *q, const partition *p,
                    const partition_line *l, int kind, uint64_t first) {
  ids_key k = {q->id, p->number, l->priority, kind, first};
  return ids_key_of(&k);
}

static void put_list(txn *t, const queue *q, const partition *p,
                     partition_line *l, const id_list *list) {
  packer out;
  if (!list->n) return;
  packer_init(&out);
  key k = list_key(q, p, l, KIND_READY, ids_first(list));
  ids_pack(&out, list);
  record_put(t, DB_PARTITION_ITEMS, key_bytes(&k), &out);
  packer_free(&out);
  l->more = true;
}

static bool is_of(respool_bytes found, const queue *q, const partition *p,
                  const partition_line *l, int kind, ids_key *k) {
  return ids_key_read(found, k) && k->queue == q->id &&
         k->partition == p->number && k->priority == l->priority &&
         k->kind == kind;
}

static void open_list(txn *t, queue *q, respool_bytes k, respool_bytes v,
                      id_list *list) {
  *list = (id_list){.n = 0};
  int rc = ids_unpack(k, v, &q->parted->memory, list);
  if (rc) partition_unread(t, q, rc);
}

static void del_list(txn *t, const queue *q, const partition *p,
                     const partition_line *l, uint64_t first) {
  key k = list_key(q, p, l, KIND_READY, first);
  txn_del(t, DB_PARTITION_ITEMS, key_bytes(&k));
}

/* The next list becomes the head, which is empty. */
static void refill(txn *t, queue *q, const partition *p, partition_line *l) {
  key from = list_key(q, p, l, KIND_READY, 0);
  respool_bytes found, v;
  ids_key k;
  if (l->head.n || !l->more) return;
  if (!txn_seek(t, DB_PARTITION_ITEMS, key_bytes(&from), &found, &v) ||
      !is_of(found, q, p, l, KIND_READY, &k)) {
    l->more = false;
    return;
  }
  open_list(t, q, found, v, &l->head);
  del_list(t, q, p, l, k.first);
}

bool line_take(txn *t, queue *q, partition *p, partition_line *l,
               uint64_t upto, uint64_t *id, bool *solo) {
  if (!l->head.n || t->rc || ids_first(&l->head) > upto) return false;
  *solo = l->head.solo;
  *id = ids_take(&l->head);
  l->ready--;
  refill(t, q, p, l);
  return true;
}

/* Parts a list where an id is to come between its own: the ids behind it become
   a list of their own. */
static void part_list(txn *t, queue *q, const partition *p,
                      partition_line *l, id_list *list, uint64_t id) {
  id_list rest;
  txn_fail(t, ids_split(list, &q->parted->memory, id, &rest));
  if (!t->rc) put_list(t, q, p, l, &rest);
}

/* The same with the stored list that begins before the id. */
static void part_stored(txn *t, queue *q, const partition *p,
                        partition_line *l, uint64_t id) {
  key upto = list_key(q, p, l, KIND_READY, id);
  respool_bytes found, v;
  ids_key k;
  id_list list;
  if (!l->more ||
      !txn_floor(t, DB_PARTITION_ITEMS, key_bytes(&upto), &found, &v) ||
      !is_of(found, q, p, l, KIND_READY, &k))
    return;
  open_list(t, q, found, v, &list);
  if (t->rc || ids_last(&list) < id) return;
  part_list(t, q, p, l, &list, id);
  put_list(t, q, p, l, &list);
}

void line_insert(txn *t, queue *q, partition *p, partition_line *l,
                 uint64_t id, bool solo) {
  int rc = 0;
  id_list one = {.solo = solo};
  ids_add(&one, &q->parted->memory, id, 1, &rc);
  txn_fail(t, rc);
  if (t->rc) return;
  if (!l->head.n) {
    l->head = one;
  } else if (id < ids_first(&l->head)) {
    put_list(t, q, p, l, &l->head);
    l->head = one;
  } else {
    if (id < ids_last(&l->head))
      part_list(t, q, p, l, &l->head, id);
    else
      part_stored(t, q, p, l, id);
    put_list(t, q, p, l, &one);
  }
  l->ready++;
}

/* Adds ids behind all others. */
void line_append(txn *t, queue *q, partition *p, partition_line *l,
                        uint64_t first, uint64_t n) {
  int rc = 0;
  arena *a = &q->parted->memory;
  id_list behind = {.n = 0};
  bool head = !l->more && !(l->head.n && l->head.solo);
  if (head && !l->head.n) l->head.solo = false;
  l->ready += n;
  if (head && ids_add(&l->head, a, first, n, &rc)) return;
  if (!rc) ids_add(&behind, a, first, n, &rc);
  txn_fail(t, rc);
  if (!t->rc) put_list(t, q, p, l, &behind);
}

static void remove_stored(txn *t, queue *q, partition *p, partition_line *l,
                          uint64_t id) {
  key upto = list_key(q, p, l, KIND_READY, id);
  respool_bytes found, v;
  ids_key k;
  id_list list;
  int rc = 0;
  if (!txn_floor(t, DB_PARTITION_ITEMS, key_bytes(&upto), &found, &v) ||
      !is_of(found, q, p, l, KIND_READY, &k))
    return;
  open_list(t, q, found, v, &list);
  if (t->rc || !ids_remove(&list, &q->parted->memory, id, &rc)) return;
  txn_fail(t, rc);
  del_list(t, q, p, l, k.first);
  put_list(t, q, p, l, &list);
}

void line_remove(txn *t, queue *q, partition *p, partition_line *l,
                        uint64_t id) {
  int rc = 0;
  if (l->ready) l->ready--;
  if (ids_remove(&l->head, &q->parted->memory, id, &rc))
    refill(t, q, p, l);
  else if (!rc)
    remove_stored(t, q, p, l, id);
  txn_fail(t, rc);
}

/* ---- ids that wait ------------------------------------------------------ */

void line_put_waiting(txn *t, const queue *q, const partition *p,
                        partition_line *l, uint64_t id) {
  key k = list_key(q, p, l, KIND_WAITING, id);
  txn_put_null(t, DB_PARTITION_ITEMS, key_bytes(&k));
  l->waiting++;
}

void line_del_waiting(txn *t, const queue *q, const partition *p,
                        partition_line *l, uint64_t id) {
  key k = list_key(q, p, l, KIND_WAITING, id);
  txn_del(t, DB_PARTITION_ITEMS, key_bytes(&k));
  if (l->waiting) l->waiting--;
}

uint64_t line_next_waiting(txn *t, const queue *q, const partition *p,
                           const partition_line *l, uint64_t from) {
  key start = list_key(q, p, l, KIND_WAITING, from);
  respool_bytes found, v;
  ids_key k;
  if (!l->waiting ||
      !txn_seek(t, DB_PARTITION_ITEMS, key_bytes(&start), &found, &v) ||
      !is_of(found, q, p, l, KIND_WAITING, &k))
    return UINT64_MAX;
  return k.first;
}

uint64_t line_first_waiting(txn *t, const queue *q, const partition *p,
                            const partition_line *l) {
  return line_next_waiting(t, q, p, l, 0);
}

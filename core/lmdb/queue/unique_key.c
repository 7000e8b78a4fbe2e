/* SPDX-License-Identifier: MIT */
/*
 * Keys that callers chose. A key belongs to one item of its queue until that
 * is settled, and until its window closes if it has one. Whether the item is
 * settled is read from its segment, so a key never outlives its item; records
 * of keys that are free again are deleted when they are met.
 */
#include "lmdb/queue/unique_key.h"

#include "lmdb/env/txn/cur.h"
#include "lmdb/queue/find.h"

static bool get_owner(txn *t, const queue *q, respool_bytes name,
                      key_owner *h) {
  respool_bytes v;
  name_key k = unique_key(q->id, name);
  return txn_get(t, DB_KEYS, name_key_bytes(&k), &v) &&
         owner_unpack(name_key_bytes(&k), v, h);
}

bool key_in_use(txn *t, const queue *q, respool_bytes name, int64_t now,
                key_owner *h) {
  line l;
  return get_owner(t, q, name, h) &&
         (h->until > now || find_item(t, q, h->id, &l));
}

void key_assign(txn *t, queue *q, respool_bytes name, key_owner h) {
  packer p;
  name_key k = unique_key(q->id, name);
  packer_init(&p);
  owner_pack(&p, h);
  record_put(t, DB_KEYS, name_key_bytes(&k), &p);
  packer_free(&p);
  if (!h.until) return;
  time_comes(&q->windows_from, h.until);
  k = window_key(q->id, h.until, name);
  txn_put_null(t, DB_WINDOWS, name_key_bytes(&k));
}

static void forget(txn *t, const queue *q, respool_bytes name) {
  name_key k = unique_key(q->id, name);
  txn_del(t, DB_KEYS, name_key_bytes(&k));
}

void key_release(txn *t, const queue *q, const respool_item *i, int64_t now) {
  key_owner h;
  if (!i->about->key.size || !get_owner(t, q, i->about->key, &h)) return;
  if (h.id == i->id && h.until <= now) forget(t, q, i->about->key);
}

/* A window has closed: its key is freed, unless a later push owns it. */
static void close_window(txn *t, const queue *q, respool_bytes name,
                         int64_t until) {
  key_owner h;
  line l;
  if (get_owner(t, q, name, &h) && h.until == until &&
      !find_item(t, q, h.id, &l))
    forget(t, q, name);
}

uint64_t key_sweep(txn *t, queue *q, int64_t now, uint64_t limit) {
  respool_bytes none = {NULL, 0}, name;
  name_key start = window_key(q->id, 0, none);
  uint32_t of;
  int64_t until;
  uint64_t n = 0;
  cur c;
  if (q->windows_from > now) return 0;
  cur_open(&c, t, DB_WINDOWS);
  q->windows_from = INT64_MAX;
  while (cur_seek(&c, name_key_bytes(&start)) &&
         window_key_read(c.key, &of, &until, &name) && of == q->id) {
    q->windows_from = until;
    if (until > now || n == limit) break;
    name_key k = window_key(q->id, until, name);
    respool_bytes copy = {k.b + 12, k.n - 12};
    close_window(t, q, copy, until);
    txn_del(t, DB_WINDOWS, name_key_bytes(&k));
    n++;
  }
  cur_close(&c);
  return n;
}

/* SPDX-License-Identifier: MIT */
/*
 * History: finished items that a queue keeps for a while, ordered by the time
 * they were done.
 */
#include "lmdb/queue/history.h"

#include "lmdb/env/txn/cur.h"
#include "lmdb/queue/results.h"
#include "lmdb/queue/state.h"
#include "lmdb/record/blobs.h"
#include "lmdb/record/item_reader.h"

#include <string.h>

static void keep(txn *t, queue *q, const respool_item *i, respool_bytes packed,
                 int64_t now) {
  key k = history_key(q->id, now, i->id);
  packer p;
  packer_init(&p);
  history_pack(&p, i->about, packed);
  record_put(t, DB_HISTORY, key_bytes(&k), &p);
  q->counters.kept++;
  q->counters.kept_bytes += p.len + blob_of(packed).size;
  packer_free(&p);
}

void history_keep(txn *t, queue *q, const respool_item *i,
                  respool_bytes packed, respool_bytes result, int64_t now) {
  keep(t, q, i, packed, now);
  q->counters.kept_bytes += result.size;
  result_keep(t, q, i->id, now, result);
}

void history_keep_cancelled(txn *t, queue *q, const respool_item *i,
                            respool_bytes packed, int64_t now) {
  respool_item_about about = *i->about;
  respool_item cancelled = {i->id, i->body, &about};
  about.state = RESPOOL_CANCELLED;
  keep(t, q, &cancelled, packed, now);
}

/* ---- forgetting --------------------------------------------------------- */

static bool beyond(const queue *q, int64_t done_at, int64_t now) {
  const queue_config *c = &q->config;
  if (done_at <= now - c->keep_done) return true;
  return c->keep_done_bytes != RESPOOL_UNLIMITED &&
         q->counters.kept_bytes > (uint64_t)c->keep_done_bytes;
}

static void less(uint64_t *from, uint64_t n) {
  *from -= n < *from ? n : *from;
}

blob_ref history_blob(respool_bytes k, respool_bytes v) {
  respool_item_about i;
  item it;
  blob_ref r = {0, 0};
  unpacker u;
  if (history_unpack(k, v, &i, &u)) item_unpack(&u, &it, &r);
  return r;
}

static void forget(txn *t, queue *q, cur *c, uint64_t id) {
  blob_ref r = history_blob(c->key, c->value);
  less(&q->counters.kept_bytes,
       c->value.size + r.size + result_size(t, q, id));
  less(&q->counters.kept, 1);
  cur_del(c);
  if (r.number) blob_del(t, r.number);
  result_forget(t, q, id);
  queue_changed(t, q);
}

/* Deletes, from the oldest on, items beyond their time, or all; `*limit` at
   most. */
static uint64_t sweep(txn *t, queue *q, int64_t now, int *limit, bool all) {
  key start = history_key(q->id, 0, 0);
  uint32_t of;
  int64_t done_at;
  uint64_t id, n = 0;
  cur c;
  if (!q->counters.kept) return 0;
  cur_open(&c, t, DB_HISTORY);
  while (*limit > 0 && cur_seek(&c, key_bytes(&start)) &&
         history_key_read(c.key, &of, &done_at, &id) && of == q->id &&
         (all || beyond(q, done_at, now))) {
    forget(t, q, &c, id);
    n++;
    --*limit;
  }
  cur_close(&c);
  return n;
}

uint64_t history_sweep(txn *t, queue *q, int64_t now, int *limit) {
  return sweep(t, q, now, limit, false);
}

uint64_t history_drop(txn *t, queue *q, int *limit) {
  return sweep(t, q, 0, limit, true);
}

/* ---- looking ------------------------------------------------------------ */

static void add_finished(txn *t, respool_page *p, const cur *c, int64_t done_at,
                         uint64_t id) {
  respool_bytes copy, packed;
  respool_item_about about;
  item it;
  unpacker u;
  txn_fail(t, arena_copy(&p->memory, c->value, &copy));
  if (t->rc || !history_unpack(c->key, copy, &about, &u) ||
      item_read(t, p, &u, &it, &packed) != ITEM_OK)
    return;
  about.visible_at = done_at;
  const respool_item_about *like = page_about(p, &about);
  respool_item *out = like ? page_add(p, packed) : NULL;
  if (!out || !page_fill(p, out, id, like, &it)) txn_fail(t, RESPOOL_NOMEM);
}

int lmdb_history(txn *t, const char *name, respool_history_cursor *at,
                 size_t limit, respool_page *p) {
  int rc = 0;
  const queue *q = queue_find(t, name, &rc);
  if (!q) return rc;
  key start = history_key(q->id, at->at, at->id);
  uint32_t of;
  int64_t done_at;
  uint64_t id;
  cur c;
  cur_open(&c, t, DB_HISTORY);
  bool found = cur_seek(&c, key_bytes(&start));
  uint64_t weight = 0;
  while (found && p->n < limit && weight < PAGE_BYTES && !t->rc &&
         history_key_read(c.key, &of, &done_at, &id) && of == q->id) {
    add_finished(t, p, &c, done_at, id);
    if (p->n > 0) weight += p->items[p->n - 1].body.size;
    *at = (respool_history_cursor){done_at, id + 1};
    found = cur_next(&c);
  }
  cur_close(&c);
  return t->rc;
}

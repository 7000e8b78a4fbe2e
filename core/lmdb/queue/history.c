/* SPDX-License-Identifier: MIT */
/*
 * History: finished items that a queue keeps for a while, by the time they
 * were done. Nothing here touches what is not finished.
 */
#include "lmdb/parts.h"

#include <string.h>

void history_keep(txn *t, queue *q, const respool_item *i,
                  respool_bytes packed, int64_t now) {
  key k = history_key(q->id, now, i->id);
  packer p;
  packer_init(&p);
  past_pack(&p, i, packed);
  txn_put_packed(t, DB_HISTORY, key_bytes(&k), &p);
  q->counters.kept++;
  q->counters.kept_bytes += p.len + blob_of(packed).size;
  packer_free(&p);
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

/* The blob of a finished item; number 0 when it has none. */
static blob_ref blob_kept(respool_bytes v) {
  respool_item i;
  item it;
  blob_ref r = {0, 0};
  unpacker u;
  if (past_unpack(v, &i, &u)) item_unpack(&u, &it, &r);
  return r;
}

static void forget(txn *t, queue *q, cur *c) {
  blob_ref r = blob_kept(c->value);
  less(&q->counters.kept_bytes, c->value.size + r.size);
  less(&q->counters.kept, 1);
  cur_del(c);
  if (r.number) blob_del(t, r.number);
  queue_changed(t, q);
}

static bool any(const queue *q, int64_t done_at, int64_t now) {
  (void)q, (void)done_at, (void)now;
  return true;
}

/* Forgets from the oldest on what `goes`, `*limit` at most. */
static uint64_t sweep(txn *t, queue *q, int64_t now, int *limit,
                      bool (*goes)(const queue *q, int64_t done_at,
                                   int64_t now)) {
  key start = history_key(q->id, 0, 0);
  uint32_t of;
  int64_t done_at;
  uint64_t id, n = 0;
  cur c;
  if (!q->counters.kept) return 0;
  cur_open(&c, t, DB_HISTORY);
  while (*limit > 0 && cur_seek(&c, key_bytes(&start)) &&
         history_key_read(c.key, &of, &done_at, &id) && of == q->id &&
         goes(q, done_at, now)) {
    forget(t, q, &c);
    n++;
    --*limit;
  }
  cur_close(&c);
  return n;
}

uint64_t history_sweep(txn *t, queue *q, int64_t now, int *limit) {
  return sweep(t, q, now, limit, beyond);
}

void history_drop(txn *t, queue *q, int *limit) {
  sweep(t, q, 0, limit, any);
}

/* ---- looking ------------------------------------------------------------ */

static void add_past(txn *t, respool_page *p, const cur *c, int64_t done_at,
                     uint64_t id) {
  respool_bytes copy, packed;
  respool_item i;
  item it;
  unpacker u;
  txn_spoil(t, arena_copy(&p->memory, c->value, &copy));
  if (t->rc || !past_unpack(copy, &i, &u) ||
      items_read(t, p, &u, &it, &packed) != ITEM_OK)
    return;
  respool_item *out = page_add(p, packed);
  if (!out) {
    txn_spoil(t, RESPOOL_NOMEM);
    return;
  }
  *out = i;
  out->id = id;
  out->visible_at = done_at;
  out->body = it.body;
  out->headers = it.headers;
  out->original = it.original;
  out->key = it.key;
  out->replays = it.replays;
}

int lmdb_history(txn *t, const char *name, respool_moment *at, size_t limit,
                 respool_page *p) {
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
  while (found && p->n < limit && !t->rc &&
         history_key_read(c.key, &of, &done_at, &id) && of == q->id) {
    add_past(t, p, &c, done_at, id);
    *at = (respool_moment){done_at, id + 1};
    found = cur_next(&c);
  }
  cur_close(&c);
  return t->rc;
}

/* ---- care --------------------------------------------------------------- */

/* Dead letters die in the order of their numbers, so the oldest come first. */
static uint64_t dead_sweep(txn *t, queue *q, int64_t now, size_t limit,
                              bool *more) {
  respool_purge_options o = RESPOOL_PURGE_OPTIONS_INIT;
  respool_list_options first = RESPOOL_LIST_OPTIONS_INIT;
  respool_dead_letters l;
  uint64_t after = 0, removed = 0;
  int64_t keep = q->config.keep_dead;
  if (keep == RESPOOL_UNLIMITED || keep >= now) return 0;
  o.died_before = now - keep;
  first.limit = 1;
  first.no_body = 1;
  memset(&l, 0, sizeof l);
  lmdb_dead_list(t, q->config.dlq, &first, &l);
  bool old = l.n && l.dead_letters[0].died_at < o.died_before;
  dead_letters_clear(&l);
  if (old)
    lmdb_dead_purge(t, q->config.dlq, &o, limit, &after, &removed, more);
  *more = *more && removed > 0;
  return removed;
}

int lmdb_maintain(txn *t, const char *name, int64_t wall, size_t limit,
              respool_maintenance *out) {
  int rc = 0, past = (int)limit;
  bool more = false;
  queue *q = queue_find(t, name, &rc);
  if (!q) return rc;
  int64_t now = queue_tick(t, q, wall);
  uint64_t expired = q->counters.expired;
  size_t windows = txn_entries(t, DB_WINDOWS);
  out->more = expiry_sweep(t, q, now, (int)limit);
  out->more |= unique_sweep(t, q, now, (int)limit);
  out->history += history_sweep(t, q, now, &past);
  out->dead_letters += dead_sweep(t, q, now, limit, &more);
  out->more |= more || past == 0;
  out->expired += q->counters.expired - expired;
  out->windows += windows - txn_entries(t, DB_WINDOWS);
  return t->rc;
}

int lmdb_free_readers(env *e, respool_maintenance *out) {
  int n = 0;
  int rc = txn_env_readers((lmdb_env *)e, &n);
  if (!rc) out->readers += (uint64_t)n;
  return rc;
}

/* SPDX-License-Identifier: MIT */
/*
 * DLQs. A DLQ is made by its first dead letter. Its record holds the next
 * number, the count and the bytes, and like a queue's it is stored once a
 * transaction: by then the oldest dead letters beyond the bounds of those who
 * have buried are gone.
 */
#include "lmdb/dead/dlq.h"

#include "lmdb/env/txn/cur.h"
#include "lmdb/record/blobs.h"
#include "lmdb/record/meta.h"

#include <stdlib.h>
#include <string.h>

static dlq *dlq_new(txn *t, const char *name) {
  dlq *x = calloc(1, sizeof *x);
  if (!x) {
    txn_fail(t, RESPOOL_NOMEM);
    return NULL;
  }
  strcpy(x->name, name);
  x->most_items = x->most_bytes = RESPOOL_UNLIMITED;
  x->next = t->dlqs;
  t->dlqs = x;
  return x;
}

uint64_t dead_weight(respool_bytes k, respool_bytes v) {
  dead l;
  bool whole = dead_unpack(k, v, &l);
  return v.size + (whole ? blob_of(l.item).size : 0);
}

/* A record of an older build is measured by the first that may change it, and
   stored so: that takes a walk over all its dead letters. */
static void measure(txn *t, dlq *x) {
  key start = dead_key(x->id, 0);
  uint32_t of;
  uint64_t number;
  cur c;
  x->bytes = 0;
  cur_open(&c, t, DB_DEAD_LETTERS);
  for (bool more = cur_seek(&c, key_bytes(&start));
       more && dead_key_read(c.key, &of, &number) && of == x->id;
       more = cur_next(&c))
    x->bytes += dead_weight(c.key, c.value);
  cur_close(&c);
  x->dirty = true;
  t->changes++;
}

dlq *dlq_find(txn *t, const char *name) {
  respool_bytes v;
  for (dlq *x = t->dlqs; x; x = x->next)
    if (!strcmp(x->name, name)) return x;
  if (!txn_get(t, DB_DLQS, phrase_of(name), &v)) return NULL;
  dlq *x = dlq_new(t, name);
  if (x && !dlq_unpack(phrase_of(name), v, x)) txn_fail(t, RESPOOL_CORRUPT);
  if (!t->rc && t->write && x->bytes == DLQ_UNMEASURED) measure(t, x);
  return t->rc ? NULL : x;
}

dlq *dlq_make(txn *t, const char *name) {
  dlq *x = dlq_find(t, name);
  if (x || t->rc) return x;
  x = dlq_new(t, name);
  if (!x) return NULL;
  x->id = (uint32_t)meta_number(t, "last DLQ");
  x->next_number = 1;
  x->dirty = true;
  return x;
}

/* ---- removing ------------------------------------------------------------ */

void dead_delete(txn *t, dlq *x, uint64_t number, uint64_t weight) {
  key k = dead_key(x->id, number);
  txn_del(t, DB_DEAD_LETTERS, key_bytes(&k));
  x->count--;
  x->bytes -= weight < x->bytes ? weight : x->bytes;
  x->dirty = true;
}

void dead_remove(txn *t, dlq *x, uint64_t number, respool_bytes v) {
  dead l;
  blob_ref b = {0, 0};
  key k = dead_key(x->id, number);
  if (dead_unpack(key_bytes(&k), v, &l)) b = blob_of(l.item);
  dead_delete(t, x, number, v.size + b.size);
  if (b.number) blob_del(t, b.number);
}

/* ---- bounds ------------------------------------------------------------- */

#define BESIDES 16 /* removed by a commit that buries, and what it has added */

static bool is_over(const dlq *x) {
  return x->count > 1 && ((x->most_items != RESPOOL_UNLIMITED &&
                           x->count > (uint64_t)x->most_items) ||
                          (x->most_bytes != RESPOOL_UNLIMITED &&
                           x->bytes > (uint64_t)x->most_bytes));
}

/* Removes the oldest dead letters beyond the bounds, so many at most; how many
   there were. */
static uint64_t trim(txn *t, dlq *x, size_t most) {
  uint64_t removed = 0, number;
  uint32_t of;
  respool_bytes k, v;
  while (removed < most && is_over(x)) {
    key start = dead_key(x->id, 0);
    if (!txn_seek(t, DB_DEAD_LETTERS, key_bytes(&start), &k, &v) ||
        !dead_key_read(k, &of, &number) || of != x->id)
      break;
    dead_remove(t, x, number, v);
    removed++;
  }
  x->dropped += removed;
  return removed;
}

void dlq_bound(dlq *x, const queue_config *c) {
  if (strcmp(x->name, c->dlq) != 0) return;
  if (c->keep_dead_items < x->most_items) x->most_items = c->keep_dead_items;
  if (c->keep_dead_bytes < x->most_bytes) x->most_bytes = c->keep_dead_bytes;
}

uint64_t dlq_trim(txn *t, const queue_config *c, size_t most, bool *more) {
  dlq *x = dlq_find(t, c->dlq);
  if (!x) return 0;
  dlq_bound(x, c);
  uint64_t removed = trim(t, x, most);
  *more = *more || (removed > 0 && is_over(x));
  return removed;
}

/* ---- storing ------------------------------------------------------------ */

void dlqs_store(txn *t) {
  packer p;
  packer_init(&p);
  for (dlq *x = t->dlqs; x; x = x->next) {
    if (!x->dirty) continue;
    if (x->added) trim(t, x, x->added + BESIDES);
    packer_reset(&p);
    dlq_pack(&p, x);
    record_put(t, DB_DLQS, phrase_of(x->name), &p);
  }
  packer_free(&p);
}

void dlqs_free(txn *t) {
  while (t->dlqs) {
    dlq *next = t->dlqs->next;
    packer_free(&t->dlqs->room);
    free(t->dlqs);
    t->dlqs = next;
  }
}

void dlq_stat(txn *t, const char *name, respool_queue_stats *out) {
  const dlq *x = dlq_find(t, name);
  if (!x) return;
  out->dead = x->count;
  out->dead_bytes = x->bytes == DLQ_UNMEASURED ? 0 : x->bytes;
  out->dead_dropped = x->dropped;
}

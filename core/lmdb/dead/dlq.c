/* SPDX-License-Identifier: MIT */
/*
 * DLQs. A DLQ is made by its first dead letter. Its record holds the next
 * number, the count and the bytes, and like a queue's it is stored once a
 * transaction: by then the oldest dead letters beyond the bounds of those who
 * have buried are gone. Dead letters that die alike, one after the other, are
 * stored as a run: when one dies otherwise, when the DLQ is looked at, or at
 * the end of the transaction.
 */
#include "lmdb/dead/dlq.h"

#include "lmdb/env/txn/cur.h"
#include "lmdb/env/txn/space.h"
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

/* A record of an older build is measured by the first that may change it, and
   stored so: that takes a walk over all its dead letters. */
static void measure(txn *t, dlq *x) {
  key start = dead_key(x->id, 0, 0);
  uint32_t of;
  uint64_t last, count;
  cur c;
  x->bytes = 0;
  cur_open(&c, t, DB_DEAD_LETTERS);
  for (bool more = cur_seek(&c, key_bytes(&start));
       more && dead_key_read(c.key, &of, &last, &count) && of == x->id;
       more = cur_next(&c))
    x->bytes += dead_run_weight(c.key, c.value);
  cur_close(&c);
  x->dirty = true;
  t->changes++;
}

static dlq *load(txn *t, const char *name) {
  respool_bytes v;
  for (dlq *x = t->dlqs; x; x = x->next)
    if (!strcmp(x->name, name)) return x;
  if (!txn_get(t, DB_DLQS, phrase_of(name), &v)) return NULL;
  dlq *x = dlq_new(t, name);
  if (x && !dlq_unpack(phrase_of(name), v, x)) txn_fail(t, RESPOOL_CORRUPT);
  if (!t->rc && t->write && x->bytes == DLQ_UNMEASURED) measure(t, x);
  return t->rc ? NULL : x;
}

dlq *dlq_find(txn *t, const char *name) {
  dlq *x = load(t, name);
  if (x) dlq_store_run(t, x);
  return t->rc ? NULL : x;
}

dlq *dlq_make(txn *t, const char *name) {
  dlq *x = load(t, name);
  if (x || t->rc) return x;
  x = dlq_new(t, name);
  if (!x) return NULL;
  x->id = (uint32_t)meta_number(t, "last DLQ");
  x->next_number = 1;
  x->dirty = true;
  return x;
}

/* ---- runs --------------------------------------------------------------- */

uint64_t dead_run_weight(respool_bytes k, respool_bytes v) {
  dead_reader r;
  uint64_t weight = v.size;
  if (dead_run_open(k, v, &r))
    while (dead_run_next(&r)) weight += blob_of(r.l.item).size;
  return weight;
}

#define SPARE ((uint64_t)1 << 20) /* for what else a transaction writes */
#define SHORT_RUN 2000 /* of which a page takes two */

/* How long a run may become. A run of several pages needs them side by side,
   which a full store may not have: it has room for short ones. */
static size_t run_bytes(txn *t, const dlq *x) {
  return space_may_grow(t, x->stored + SPARE) ? RUN_BYTES : SHORT_RUN;
}

/* Stores a run under its last number; it is empty then. */
static void store_run(txn *t, dlq *x, dead_run *r) {
  if (!r->n) return;
  key k = dead_key(x->id, r->last, r->n);
  packer_reset(&x->room);
  dead_run_pack(&x->room, key_bytes(&k), r);
  txn_put_packed(t, DB_DEAD_LETTERS, key_bytes(&k), &x->room);
  x->bytes += x->room.len;
  x->stored += x->room.len;
  dead_run_reset(r);
}

/* Adds a dead letter to a run, which is stored first where it does not take
   it. */
static void add_to_run(txn *t, dlq *x, dead_run *r, const dead *l) {
  if (!dead_run_takes(r, l, x->run_bytes)) {
    store_run(t, x, r);
    x->run_bytes = run_bytes(t, x);
  }
  txn_fail(t, dead_run_add(r, l));
}

void dlq_store_run(txn *t, dlq *x) {
  store_run(t, x, &x->run);
}

void dlq_add_dead(txn *t, dlq *x, dead *l) {
  l->r.number = x->next_number++;
  add_to_run(t, x, &x->run, l);
  x->count++;
  x->bytes += blob_of(l->item).size;
  x->added++;
  x->dirty = true;
  t->changes++;
}

static void subtract(uint64_t *from, uint64_t n) {
  *from -= n < *from ? n : *from;
}

/* ---- removing ------------------------------------------------------------ */

static void forget_record(txn *t, dlq *x, respool_bytes k, uint64_t size) {
  txn_del(t, DB_DEAD_LETTERS, k);
  subtract(&x->bytes, size);
  x->dirty = true;
}

/* Is it the next of those to go? */
static bool goes(numbers *gone, uint64_t number) {
  while (gone->n && *gone->at < number) {
    gone->at++;
    gone->n--;
  }
  return gone->n && *gone->at == number;
}

/* Stores those of a run that stay, and frees the blobs of the others; how many
   they are. */
static uint64_t keep_rest(txn *t, dlq *x, dead_reader *r, numbers gone,
                          enum blob_fate blobs) {
  dead_run rest = {.n = 0};
  uint64_t n = 0;
  while (dead_run_next(r)) {
    if (!goes(&gone, r->l.r.number)) {
      add_to_run(t, x, &rest, &r->l);
      continue;
    }
    n++;
    blob_ref b = blob_of(r->l.item);
    subtract(&x->bytes, b.size);
    if (b.number && blobs == BLOBS_GO) blob_del(t, b.number);
  }
  store_run(t, x, &rest);
  dead_run_free(&rest);
  return n;
}

static uint64_t remove_damaged(txn *t, dlq *x, const stored_run *s,
                               numbers gone) {
  if (!goes(&gone, s->last)) return 0;
  forget_record(t, x, key_bytes(&s->key), s->value.len);
  subtract(&x->count, s->count);
  return 1;
}

uint64_t dead_run_remove(txn *t, dlq *x, const stored_run *s, numbers gone,
                         enum blob_fate blobs) {
  dead_reader r;
  respool_bytes k = key_bytes(&s->key), v = {s->value.data, s->value.len};
  if (!dead_run_open(k, v, &r)) return remove_damaged(t, x, s, gone);
  forget_record(t, x, k, v.size); /* first, as the rest may have its key */
  uint64_t n = keep_rest(t, x, &r, gone, blobs);
  subtract(&x->count, n);
  return n;
}

bool dead_run_find(txn *t, const dlq *x, uint64_t number, stored_run *s) {
  key from = dead_key(x->id, number, 0);
  respool_bytes k, v;
  uint32_t of;
  uint64_t last, count;
  if (!txn_seek(t, DB_DEAD_LETTERS, key_bytes(&from), &k, &v) ||
      !dead_key_read(k, &of, &last, &count) || of != x->id)
    return false;
  s->last = last;
  s->count = count;
  s->key = dead_key(of, last, count);
  packer_reset(&s->value);
  pack_raw(&s->value, v.data, v.size);
  txn_fail(t, s->value.rc);
  return !t->rc;
}

/* How many of the first rise, up to the end of a run. */
static size_t count_rising(numbers of, uint64_t last) {
  size_t n = 1;
  while (n < of.n && of.at[n] > of.at[n - 1] && of.at[n] <= last) n++;
  return n;
}

uint64_t dead_remove(txn *t, dlq *x, numbers gone) {
  stored_run s = {.last = 0};
  uint64_t removed = 0;
  for (size_t n; gone.n && !t->rc; gone.at += n, gone.n -= n) {
    n = 1;
    if (!dead_run_find(t, x, *gone.at, &s)) continue;
    n = count_rising(gone, s.last);
    removed += dead_run_remove(t, x, &s, (numbers){gone.at, n}, BLOBS_GO);
  }
  packer_free(&s.value);
  return removed;
}

/* ---- bounds ------------------------------------------------------------- */

#define BESIDES 16 /* removed by a commit that buries, and what it has added */

static bool is_over(const dlq *x, uint64_t count, uint64_t bytes) {
  return count > 1 && ((x->most_items != RESPOOL_UNLIMITED &&
                        count > (uint64_t)x->most_items) ||
                       (x->most_bytes != RESPOOL_UNLIMITED &&
                        bytes > (uint64_t)x->most_bytes));
}

/* The first dead letters of a run, without which the DLQ would be within its
   bounds, or the run be empty. */
static size_t too_many(const dlq *x, dead_reader *r, uint64_t *gone,
                       size_t most) {
  uint64_t bytes = x->bytes;
  size_t n = 0;
  if (most > RUN_LETTERS) most = RUN_LETTERS;
  while (n < most && is_over(x, x->count - n, bytes) && dead_run_next(r)) {
    gone[n++] = r->l.r.number;
    subtract(&bytes, r->l.item.size + blob_of(r->l.item).size);
  }
  return n;
}

/* Removes the oldest dead letters beyond the bounds, of the first run. */
static void trim_run(txn *t, dlq *x, const stored_run *s, size_t most) {
  uint64_t gone[RUN_LETTERS];
  dead_reader r;
  respool_bytes v = {s->value.data, s->value.len};
  bool whole = dead_run_open(key_bytes(&s->key), v, &r);
  size_t n = whole ? too_many(x, &r, gone, most) : 1;
  if (!whole) gone[0] = s->last;
  dead_run_remove(t, x, s, (numbers){gone, n}, BLOBS_GO);
}

/* The same of all runs, so many at most; how many there were. */
static uint64_t trim(txn *t, dlq *x, size_t most) {
  stored_run s = {.last = 0};
  uint64_t before = x->count, removed = 0;
  while (removed < most && is_over(x, x->count, x->bytes) &&
         dead_run_find(t, x, 0, &s)) {
    trim_run(t, x, &s, most - removed);
    removed = before - x->count;
  }
  packer_free(&s.value);
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
  *more = *more || (removed > 0 && is_over(x, x->count, x->bytes));
  return removed;
}

/* ---- storing ------------------------------------------------------------ */

void dlqs_store(txn *t) {
  packer p;
  packer_init(&p);
  for (dlq *x = t->dlqs; x; x = x->next) {
    if (!x->dirty) continue;
    dlq_store_run(t, x);
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
    dead_run_free(&t->dlqs->run);
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

/* SPDX-License-Identifier: MIT */
/*
 * Dead letters: adding, listing, counting, removing.
 */
#include "lmdb/dead/dead_letters.h"

#include "lmdb/env/txn/cur.h"
#include "lmdb/record/blobs.h"
#include "lmdb/record/item_reader.h"

#include <string.h>

#define DEAD_SIZE 512 /* of most, without item and failures */

/* ---- adding ------------------------------------------------------------- */

static void put_dead(txn *t, dlq *x, const dead *l) {
  key k = dead_key(x->id, x->next_number++);
  packer_reset(&x->room);
  packer_reserve(&x->room, DEAD_SIZE + l->item.size + l->failures.size);
  dead_pack(&x->room, key_bytes(&k), l);
  record_put(t, DB_DEAD_LETTERS, key_bytes(&k), &x->room);
  x->count++;
  x->bytes += x->room.len + blob_of(l->item).size;
  x->added++;
  x->dirty = true;
}

static void count_death(queue *q, const death *d) {
  int i = death_number(d->reason);
  if (i >= 0) q->counters.died_by[i] += d->items;
}

void dlq_add(txn *t, queue *q, const death *d, const respool_item *i,
             respool_bytes packed) {
  const char *name = d->dlq ? d->dlq : q->config.dlq;
  dlq *x = dlq_make(t, name);
  if (!x) return;
  dead l = dead_of(d, q->name, i, packed);
  put_dead(t, x, &l);
  dlq_bound(x, &q->config);
  if (t->notices_to)
    notices_add(&t->notices, t->notices_to, x->name, x->next_number - 1);
  count_death(q, d);
  uint64_t size = blob_of(packed).size; /* it leaves the queue */
  q->bytes -= size < q->bytes ? size : q->bytes;
}

/* ---- reading ------------------------------------------------------------ */

/* The bytes that are left of a damaged item in a blob, instead of the reference
   to it. */
static respool_bytes damaged_bytes(txn *t, arena *a, respool_bytes packed) {
  blob_ref r = blob_of(packed);
  void *into = r.number ? arena_alloc(a, r.size) : NULL;
  if (r.number && !into) txn_fail(t, RESPOOL_NOMEM);
  return into ? (respool_bytes){into, blob_read_damaged(t, r, into)} : packed;
}

/* Copies the fields that lie in the packed item. */
static int copy_item(txn *t, arena *a, respool_dead_letter *r,
                     respool_bytes packed) {
  respool_page p = {.memory = *a};
  respool_bytes copy, raw;
  item i;
  unpacker u;
  int rc = arena_copy(&p.memory, packed, &copy);
  if (!rc) {
    unpacker_init(&u, copy.data, copy.size);
    bool whole = item_read(t, &p, &u, &i, &raw) == ITEM_OK;
    if (!whole) copy = damaged_bytes(t, &p.memory, copy);
    dead_show_item(r, whole ? &i : NULL, copy);
  }
  *a = p.memory;
  return rc ? rc : t->rc;
}

/* Copies the same but for what may be large. An item in a blob is read whole
   for that; any other need not be copied first. */
static int copy_marks(txn *t, arena *a, respool_dead_letter *r,
                      respool_bytes packed) {
  arena whole;
  item i;
  blob_ref b;
  unpacker u;
  int rc = 0;
  arena_init(&whole);
  unpacker_init(&u, packed.data, packed.size);
  if (item_unpack(&u, &i, &b) && !b.number)
    dead_show_item(r, &i, packed);
  else
    rc = copy_item(t, &whole, r, packed);
  if (!rc) rc = dead_keep_marks(a, r);
  arena_free(&whole);
  return rc;
}

/* Reads the dead letters of a DLQ in order. */
typedef struct dlq_cursor {
  cur c;
  uint32_t dlq;
  uint64_t number;
  bool down, begun;
} dlq_cursor;

/* Adds a copy of a dead letter to a list. */
static int add_dead(txn *t, respool_dead_letters *out, const dlq_cursor *w,
                    bool no_body) {
  dead l;
  respool_dead_letter *r = dead_letters_add(out);
  if (!r) return RESPOOL_NOMEM;
  int rc = dead_show(&out->memory, w->c.key, w->c.value, r, &l);
  r->number = w->number;
  if (rc || r->damaged) return rc;
  return (no_body ? copy_marks : copy_item)(t, &out->memory, r, l.item);
}

/* Is it in the group asked for? A damaged dead letter is in none. */
static bool in_group(const cur *c, respool_bytes group) {
  dead l;
  if (!group.data) return true;
  return dead_unpack(c->key, c->value, &l) && phrase_same(l.r.group, group);
}

/* ---- listing ------------------------------------------------------------ */

static bool dlq_cursor_move(dlq_cursor *w) {
  if (w->begun) return w->down ? cur_prev(&w->c) : cur_next(&w->c);
  key k = dead_key(w->dlq, w->number);
  w->begun = true;
  return w->down ? cur_floor(&w->c, key_bytes(&k))
                 : cur_seek(&w->c, key_bytes(&k));
}

/* Numbers that do not rise (or fall) come from a damaged tree, in which a walk
   may never end: that is an error. */
static bool dlq_cursor_next(dlq_cursor *w) {
  uint32_t of;
  uint64_t before = w->number;
  bool first = !w->begun;
  if (!dlq_cursor_move(w) || !dead_key_read(w->c.key, &of, &w->number) ||
      of != w->dlq)
    return false;
  if (first && w->number == before) return true;
  if (w->down ? w->number < before : w->number > before) return true;
  txn_fail(w->c.t, RESPOOL_CORRUPT);
  return false;
}

static void dlq_cursor_open(dlq_cursor *w, txn *t, uint32_t of, uint64_t from,
                            bool down) {
  memset(w, 0, sizeof *w);
  w->dlq = of;
  w->down = down;
  w->number = from;
  cur_open(&w->c, t, DB_DEAD_LETTERS);
}

static uint64_t first_number(const respool_list_options *o) {
  if (!o->descending) return o->after + 1;
  return o->after ? o->after - 1 : UINT64_MAX;
}

static bool is_beyond(const respool_list_options *o, uint64_t number) {
  return !o->descending && o->upto && number > o->upto;
}

/* Of the dead letter that was added last. */
static uint64_t last_weight(const respool_dead_letters *l, size_t stored) {
  const respool_dead_letter *r = &l->dead_letters[l->n - 1];
  return stored + r->body.size + r->headers.size + r->original.size;
}

int lmdb_dead_list(txn *t, const char *name, const respool_list_options *o,
                 respool_dead_letters *out) {
  dlq_cursor w;
  uint64_t limit = o->limit ? o->limit : 100, weight = 0;
  dlq *x = dlq_find(t, name);
  if (!x || (o->descending && o->after == 1)) return t->rc;
  dlq_cursor_open(&w, t, x->id, first_number(o), o->descending);
  int rc = 0;
  while (!rc && out->n < limit && (!o->bytes || weight < o->bytes) &&
         dlq_cursor_next(&w) && !is_beyond(o, w.number)) {
    if (!in_group(&w.c, o->group)) continue;
    rc = add_dead(t, out, &w, o->no_body);
    if (!rc) weight += last_weight(out, w.c.value.size);
  }
  cur_close(&w.c);
  return rc ? rc : t->rc;
}

int lmdb_dead_count(txn *t, const char *name, uint64_t *n) {
  dlq *x = dlq_find(t, name);
  if (!t->rc) *n = x ? x->count : 0;
  return t->rc;
}

/* ---- removing ----------------------------------------------------------- */

int lmdb_dead_remove(txn *t, const char *name, const uint64_t *numbers,
                       size_t n, uint64_t *removed) {
  respool_bytes v;
  *removed = 0;
  dlq *x = dlq_find(t, name);
  for (size_t i = 0; x && i < n && !t->rc; i++) {
    key k = dead_key(x->id, numbers[i]);
    if (!txn_get(t, DB_DEAD_LETTERS, key_bytes(&k), &v)) continue;
    dead_remove(t, x, numbers[i], v);
    ++*removed;
  }
  return t->rc;
}

static bool to_be_purged(const cur *c, const respool_purge_options *o) {
  dead l;
  if (!o->died_before && !o->group.data) return true;
  if (!dead_unpack(c->key, c->value, &l)) return false;
  if (o->died_before && l.r.died_at >= o->died_before) return false;
  return !o->group.data || phrase_same(l.r.group, o->group);
}

int lmdb_dead_purge(txn *t, const char *name,
                      const respool_purge_options *o, size_t limit,
                      uint64_t *after, uint64_t *removed, bool *more) {
  dlq_cursor w;
  size_t look_rc = 0;
  *removed = 0;
  *more = false;
  dlq *x = dlq_find(t, name);
  if (!x) return t->rc;
  uint64_t numbers[REMOVAL_PAGE];
  size_t n = 0;
  dlq_cursor_open(&w, t, x->id, *after + 1, false);
  while (look_rc < limit && dlq_cursor_next(&w)) {
    look_rc++;
    *after = w.number;
    if (to_be_purged(&w.c, o)) numbers[n++] = w.number;
  }
  cur_close(&w.c);
  *more = look_rc == limit;
  return t->rc ? t->rc : lmdb_dead_remove(t, name, numbers, n, removed);
}

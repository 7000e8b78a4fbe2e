/* SPDX-License-Identifier: MIT */
/*
 * Dead letters: adding, listing, counting, removing.
 */
#include "lmdb/dead/dead_letters.h"

#include "lmdb/dead/dead_cursor.h"
#include "lmdb/record/blobs.h"
#include "lmdb/record/item_reader.h"

#include <string.h>

/* ---- adding ------------------------------------------------------------- */

bool burial_begin(txn *t, queue *q, const death *d, const respool_item *i,
                  burial *b) {
  b->to = dlq_make(t, d->dlq ? d->dlq : q->config.dlq);
  if (!b->to) return false;
  dlq_bound(b->to, &q->config);
  b->reason = death_number(d->reason);
  b->l = dead_of(d, q->name, i, (respool_bytes){NULL, 0});
  return true;
}

void burial_add(txn *t, queue *q, burial *b, uint64_t id,
                respool_bytes packed) {
  b->l.r.id = id;
  b->l.item = packed;
  dlq_add_dead(t, b->to, &b->l);
  if (t->notices_to)
    notices_add(&t->notices, t->notices_to, b->to->name, b->l.r.number);
  if (b->reason >= 0) q->counters.died_by[b->reason] += b->l.r.items;
  uint64_t size = blob_of(packed).size; /* it leaves the queue */
  q->bytes -= size < q->bytes ? size : q->bytes;
}

void dlq_add(txn *t, queue *q, const death *d, const respool_item *i,
             respool_bytes packed) {
  burial b;
  if (burial_begin(t, q, d, i, &b)) burial_add(t, q, &b, i->id, packed);
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

/* Is it a body and nothing else, as most are? */
static bool is_body(respool_bytes packed, respool_bytes *body) {
  unpacker u;
  unpacker_init(&u, packed.data, packed.size);
  if (!item_is_body(&u)) return false;
  *body = unpack_bytes(&u);
  return !u.rc;
}

/* Copies the fields that lie in the packed item. */
static int copy_item(txn *t, arena *a, respool_dead_letter *r,
                     respool_bytes packed) {
  respool_page p = {.memory = *a};
  respool_bytes copy, raw;
  item i;
  unpacker u;
  if (is_body(packed, &raw)) return arena_copy(a, raw, &r->body);
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
  unpacker_init(&u, packed.data, packed.size);
  if (item_is_body(&u)) return 0;
  arena_init(&whole);
  if (item_unpack(&u, &i, &b) && !b.number)
    dead_show_item(r, &i, packed);
  else
    rc = copy_item(t, &whole, r, packed);
  if (!rc) rc = dead_keep_marks(a, r);
  arena_free(&whole);
  return rc;
}

/* Dead letters on their way to a list. Those of a run share the copies of what
   they have in common. */
typedef struct lister {
  respool_dead_letters *out;
  dead_cursor at;
  uint64_t last; /* of the run whose fields `like` has */
  respool_dead_letter like;
  bool no_body;
} lister;

static int add_damaged(lister *w) {
  respool_dead_letter *r = dead_letters_add(w->out);
  if (!r) return RESPOOL_NOMEM;
  int rc = dead_show_damaged(&w->out->memory, w->at.c.value, r);
  r->items = w->at.count;
  r->number = w->at.number;
  return rc;
}

/* Copies the fields that are common to the run. */
static int copy_like(lister *w) {
  if (w->last == w->at.last) return 0;
  w->last = w->at.last;
  return dead_show_fields(&w->out->memory, &w->at.run.l, &w->like);
}

/* Adds a copy of a dead letter to a list. */
static int add_dead(txn *t, lister *w) {
  const dead *l = &w->at.run.l;
  arena *a = &w->out->memory;
  if (w->at.damaged) return add_damaged(w);
  respool_dead_letter *r = dead_letters_add(w->out);
  int rc = r ? copy_like(w) : RESPOOL_NOMEM;
  if (rc) return rc;
  *r = w->like;
  r->number = l->r.number;
  r->id = l->r.id;
  r->pushed_at = l->r.pushed_at;
  return (w->no_body ? copy_marks : copy_item)(t, a, r, l->item);
}

/* Is it in the group asked for? A damaged dead letter is in none. */
static bool in_group(const dead_cursor *w, respool_bytes group) {
  return !group.data || (!w->damaged && phrase_same(w->run.l.r.group, group));
}

/* ---- listing ------------------------------------------------------------ */

static uint64_t first_number(const respool_list_options *o) {
  if (!o->descending) return o->after + 1;
  return o->after ? o->after - 1 : UINT64_MAX;
}

/* Any of a damaged run may be the one that is asked for. */
static bool is_beyond(const respool_list_options *o, const dead_cursor *w) {
  uint64_t first = w->damaged ? dead_first_of(w->last, w->count) : w->number;
  return !o->descending && o->upto && first > o->upto;
}

/* Room for the dead letters of a list, of which a long one grows. */
static int reserve(respool_dead_letters *l, const dlq *x, uint64_t limit) {
  uint64_t n = x->count < limit ? x->count : limit;
  if (n > RUN_LETTERS) n = RUN_LETTERS;
  return dead_letters_reserve(l, (size_t)n) ? 0 : RESPOOL_NOMEM;
}

/* Of the dead letter that was added last. */
static uint64_t last_weight(const respool_dead_letters *l,
                            const dead_cursor *w) {
  const respool_dead_letter *r = &l->dead_letters[l->n - 1];
  uint64_t stored = w->c.value.size / (w->count ? w->count : 1);
  return stored + r->body.size + r->headers.size + r->original.size;
}

int lmdb_dead_list(txn *t, const char *name, const respool_list_options *o,
                 respool_dead_letters *out) {
  lister w = {.out = out, .no_body = o->no_body};
  uint64_t limit = o->limit ? o->limit : 100, weight = 0;
  dlq *x = dlq_find(t, name);
  if (!x || (o->descending && o->after == 1)) return t->rc;
  dead_cursor_open(&w.at, t, x->id, first_number(o), o->descending);
  int rc = reserve(out, x, limit);
  while (!rc && out->n < limit && (!o->bytes || weight < o->bytes) &&
         dead_cursor_next(&w.at) && !is_beyond(o, &w.at)) {
    if (!in_group(&w.at, o->group)) continue;
    rc = add_dead(t, &w);
    if (!rc) weight += last_weight(out, &w.at);
  }
  dead_cursor_close(&w.at);
  return rc ? rc : t->rc;
}

int lmdb_dead_count(txn *t, const char *name, uint64_t *n) {
  dlq *x = dlq_find(t, name);
  if (!t->rc) *n = x ? x->count : 0;
  return t->rc;
}

/* ---- removing ----------------------------------------------------------- */

int lmdb_dead_remove(txn *t, const char *name, const uint64_t *which,
                       size_t n, uint64_t *removed) {
  dlq *x = dlq_find(t, name);
  *removed = x ? dead_remove(t, x, (numbers){which, n}) : 0;
  return t->rc;
}

static bool to_be_purged(const dead_cursor *w, const respool_purge_options *o) {
  const respool_dead_letter *r = &w->run.l.r;
  if (!o->died_before && !o->group.data) return true;
  if (w->damaged || (o->died_before && r->died_at >= o->died_before))
    return false;
  return !o->group.data || phrase_same(r->group, o->group);
}

int lmdb_dead_purge(txn *t, const char *name,
                      const respool_purge_options *o, size_t limit,
                      uint64_t *after, uint64_t *removed, bool *more) {
  dead_cursor w;
  size_t looked = 0;
  *removed = 0;
  *more = false;
  dlq *x = dlq_find(t, name);
  if (!x) return t->rc;
  uint64_t found[REMOVAL_PAGE];
  size_t n = 0;
  dead_cursor_open(&w, t, x->id, *after + 1, false);
  while (looked < limit && dead_cursor_next(&w)) {
    looked++;
    *after = w.number;
    if (to_be_purged(&w, o)) found[n++] = w.number;
  }
  dead_cursor_close(&w);
  *more = looked == limit;
  if (!t->rc) *removed = dead_remove(t, x, (numbers){found, n});
  return t->rc;
}

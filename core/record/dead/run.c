/* SPDX-License-Identifier: MIT */
/*
 * Runs of dead letters; see run.h.
 */
#include "record/dead/run.h"

#include <string.h>

#include "record/fields.h"

#define FIELDS 17      /* behind the checksum */
#define LETTER_FIELDS 4
#define LETTER_HEADS 32 /* of most, beside the item */
#define RUN_HEADS 160   /* of a record, beside texts and dead letters */

/* ---- reading ------------------------------------------------------------ */

bool dead_run_open(respool_bytes key, respool_bytes stored, dead_reader *n) {
  respool_dead_letter *r = &n->l.r;
  unpacker u;
  memset(n, 0, sizeof *n);
  record_open(&u, stored, FIELDS, key_seed(key));
  unpack_expect(&u, unpack_uint(&u) == RUN_FORMAT);
  unpack_bytes(&u);
  r->reason = unpack_phrase(&u);
  r->group = unpack_phrase(&u);
  r->queue = unpack_phrase(&u);
  r->priority = unpack_priority(&u);
  r->items = unpack_uint(&u);
  r->died_at = unpack_int(&u);
  r->first_failed_at = unpack_int(&u);
  r->attempts = unpack_uint(&u);
  r->deliveries = unpack_uint(&u);
  r->crashes = unpack_uint(&u);
  r->version = unpack_uint(&u);
  r->error = unpack_phrase(&u);
  n->l.failures = unpack_failures(&u);
  n->l.memo = unpack_memo(&u);
  n->left = unpack_array(&u);
  unpack_expect(&u, n->left <= RUN_LETTERS);
  n->u = u;
  return u.rc == 0;
}

static respool_bytes read_item(unpacker *u) {
  if (!item_is_body(u)) return unpack_skip(u);
  const uint8_t *start = u->at;
  unpack_bytes(u);
  return (respool_bytes){start, (size_t)(u->at - start)};
}

bool dead_run_next(dead_reader *r) {
  unpacker *u = &r->u;
  if (!r->left) return false;
  r->left--;
  unpack_expect(u, unpack_array(u) == LETTER_FIELDS);
  r->l.r.number = unpack_uint(u);
  r->l.r.id = unpack_uint(u);
  r->l.r.pushed_at = unpack_int(u);
  r->l.item = read_item(u);
  return u->rc == 0;
}

bool dead_run_is_sound(respool_bytes key, respool_bytes stored, uint64_t last,
                       uint64_t count) {
  dead_reader r;
  uint64_t n = 0, before = 0;
  if (!dead_run_open(key, stored, &r)) return false;
  for (; dead_run_next(&r) && r.l.r.number > before; n++) before = r.l.r.number;
  return n == count && before == last && !r.u.rc && r.u.at == r.u.end;
}

respool_bytes dead_run_own_key(respool_bytes stored) {
  unpacker u;
  unpacker_init(&u, stored.data, stored.size);
  unpack_array(&u);
  unpack_uint(&u);
  unpack_uint(&u);
  respool_bytes key = unpack_bytes(&u);
  return u.rc ? (respool_bytes){NULL, 0} : key;
}

/* ---- growing ------------------------------------------------------------ */

static bool same_texts(const dead *a, const dead *b) {
  return phrase_same(a->r.reason, b->r.reason) &&
         phrase_same(a->r.group, b->r.group) &&
         phrase_same(a->r.error, b->r.error) &&
         phrase_same(a->r.queue, b->r.queue) &&
         phrase_same(a->failures, b->failures) &&
         phrase_same(a->memo, b->memo);
}

static bool died_alike(const dead *a, const dead *b) {
  return a->r.priority == b->r.priority && a->r.items == b->r.items &&
         a->r.died_at == b->r.died_at &&
         a->r.first_failed_at == b->r.first_failed_at &&
         a->r.attempts == b->r.attempts &&
         a->r.deliveries == b->r.deliveries &&
         a->r.crashes == b->r.crashes && a->r.version == b->r.version &&
         same_texts(a, b);
}

static size_t texts_size(const dead *l) {
  return l->r.reason.size + l->r.group.size + l->r.error.size +
         l->r.queue.size + l->failures.size + l->memo.size;
}

bool dead_run_takes(const dead_run *r, const dead *l, size_t most) {
  return r->n && r->n < RUN_LETTERS &&
         r->letters.len + l->item.size + LETTER_HEADS + RUN_HEADS +
                 texts_size(l) <= most &&
         died_alike(&r->like, l);
}

static int begin(dead_run *r, const dead *l) {
  r->like = *l;
  respool_bytes *texts[] = {&r->like.r.reason, &r->like.r.group,
                            &r->like.r.error, &r->like.r.queue,
                            &r->like.failures, &r->like.memo};
  int rc = 0;
  for (size_t i = 0; i < sizeof texts / sizeof *texts && !rc; i++)
    rc = arena_copy(&r->memory, *texts[i], texts[i]);
  return rc;
}

int dead_run_add(dead_run *r, const dead *l) {
  packer *p = &r->letters;
  int rc = r->n ? 0 : begin(r, l);
  if (rc) return rc;
  packer_reserve(p, LETTER_HEADS + l->item.size);
  pack_array(p, LETTER_FIELDS);
  pack_uint(p, l->r.number);
  pack_uint(p, l->r.id);
  pack_int(p, l->r.pushed_at);
  pack_raw(p, l->item.data, l->item.size);
  r->n++;
  r->last = l->r.number;
  return p->rc;
}

void dead_run_pack(packer *p, respool_bytes key, const dead_run *n) {
  const respool_dead_letter *r = &n->like.r;
  size_t start = p->len;
  packer_reserve(p, RUN_HEADS + texts_size(&n->like) + n->letters.len);
  record_begin(p, FIELDS);
  pack_uint(p, RUN_FORMAT);
  pack_bytes(p, key.data, key.size);
  pack_phrase(p, r->reason);
  pack_phrase(p, r->group);
  pack_phrase(p, r->queue);
  pack_int(p, r->priority);
  pack_uint(p, r->items);
  pack_int(p, r->died_at);
  pack_int(p, r->first_failed_at);
  pack_uint(p, r->attempts);
  pack_uint(p, r->deliveries);
  pack_uint(p, r->crashes);
  pack_uint(p, r->version);
  pack_phrase(p, r->error);
  if (n->like.failures.size)
    pack_raw(p, n->like.failures.data, n->like.failures.size);
  else
    pack_null(p);
  pack_memo(p, n->like.memo);
  pack_array(p, n->n);
  pack_raw(p, n->letters.data, n->letters.len);
  sum_put(p, start, key_seed(key));
}

void dead_run_reset(dead_run *r) {
  arena_reset(&r->memory);
  packer_reset(&r->letters);
  r->n = 0;
}

void dead_run_free(dead_run *r) {
  arena_free(&r->memory);
  packer_free(&r->letters);
  r->n = 0;
}

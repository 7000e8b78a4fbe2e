/* SPDX-License-Identifier: MIT */
/*
 * Items counted anew; see recount.h. All partitions that count some as leased
 * or waiting are loaded. Their leases are set to 0, and each item of a claim
 * that is leased is counted in its own, unless it cannot be read either. Of the
 * ids that wait, those go which no claim has.
 */
#include "lmdb/partition/recount.h"

#include "lmdb/env/txn/cur.h"
#include "lmdb/partition/line.h"
#include "lmdb/partition/partitions.h"
#include "lmdb/partition/turns.h"
#include "lmdb/queue/claims.h"
#include "lmdb/record/item_reader.h"

#include <string.h>

static bool counts_any(txn *t, const queue *q, respool_bytes k,
                       respool_bytes v) {
  partition p = {.n_lines = 0};
  uint64_t n = 0;
  arena a;
  arena_init(&a);
  int rc = partition_unpack(k, v, &a, &p);
  if (rc) partition_unread(t, q, rc);
  for (size_t i = 0; i < p.n_lines; i++)
    n += p.lines[i].leased + p.lines[i].waiting;
  arena_free(&a);
  return n > 0;
}

static void load_all(txn *t, queue *q) {
  name_key prefix = partition_key(q->id, (respool_bytes){NULL, 0});
  cur c;
  cur_open(&c, t, DB_PARTITIONS);
  bool more = cur_seek(&c, name_key_bytes(&prefix));
  for (; more && !t->rc && c.key.size > prefix.n &&
         !memcmp(c.key.data, prefix.b, prefix.n); more = cur_next(&c))
    if (counts_any(t, q, c.key, c.value))
      partition_find(t, q, (respool_bytes){(const char *)c.key.data + prefix.n,
                                           c.key.size - prefix.n});
  cur_close(&c);
}

static void count_item(txn *t, queue *q, const line *l,
                       const respool_item *i) {
  partition *p = partition_loaded(q->parted, i->about->partition);
  if (!p || !p->number || p->lone == i->id) return;
  partition_line *x = partition_line_make(t, q, p, l->priority);
  if (x) x->leased++;
}

static void count_claim(txn *t, queue *q, const place *at, const claim *c) {
  respool_page page;
  int what;
  page_init(&page);
  item_reader r = {.page = &page, .line = at->line, .from = at->first,
                   .upto = c->last, .want = UINT64_MAX};
  while ((what = read_items(t, &r)) == READ_BAD_ITEM || what == READ_DAMAGED)
    if (what == READ_DAMAGED)
      reader_skip_segment(&r);
    else
      page.n--;
  for (size_t i = 0; i < page.n && !t->rc; i++)
    count_item(t, q, &at->line, &page.items[i]);
  page_clear(&page);
}

static void count_claims(txn *t, queue *q) {
  place at = {{q->id, SPACE_PARTED, 0}, 0, 0};
  claim c;
  cur w;
  key from = claim_key(&at);
  cur_open(&w, t, DB_CLAIMS);
  bool more = cur_seek(&w, key_bytes(&from));
  for (; more && !t->rc && claim_key_read(w.key, &at) &&
         at.line.queue == q->id; more = cur_next(&w))
    if (claim_unpack(w.key, w.value, &c) && c.state == CLAIM_LEASED)
      count_claim(t, q, &at, &c);
  cur_close(&w);
}

static bool has_claim(txn *t, const queue *q, int priority, uint64_t id) {
  line l = {q->id, SPACE_PARTED, priority}, solo = l;
  place at;
  claim c;
  solo.space = SPACE_PARTED_SOLO;
  return claim_cover(t, &l, id, &at, &c) || claim_cover(t, &solo, id, &at, &c);
}

static void drop_waiting(txn *t, queue *q, partition *p, partition_line *l) {
  uint64_t id = line_first_waiting(t, q, p, l);
  for (; id < UINT64_MAX; id = line_next_waiting(t, q, p, l, id + 1))
    if (!has_claim(t, q, l->priority, id)) line_del_waiting(t, q, p, l, id);
}

static void settle_counts(txn *t, queue *q, partition *p) {
  for (size_t i = 0; i < p->n_lines; i++) drop_waiting(t, q, p, &p->lines[i]);
  partition_changed(t, q, p);
  partition_line_up(t, q, p);
}

void partitions_recount(txn *t, queue *q) {
  if (!partitions_of(t, q)) return;
  load_all(t, q);
  for (partition *p = q->parted->first; p; p = p->later)
    for (size_t i = 0; i < p->n_lines; i++) p->lines[i].leased = 0;
  count_claims(t, q);
  for (partition *p = q->parted->first; p && !t->rc; p = p->later)
    if (p->number) settle_counts(t, q, p);
}

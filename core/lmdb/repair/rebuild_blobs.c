/* SPDX-License-Identifier: MIT */
/*
 * The blobs of a salvaged store (see salvage.h). A blob holds an item; a blob
 * that no record refers to belonged to a segment or dead letter that was lost,
 * so its item goes to the queue for recovered items. (Where the free list is
 * lost too the item may have been settled; the caller has reported that.)
 */
#include "lmdb/repair/rebuild_blobs.h"

#include "lmdb/env/txn/cur.h"
#include "lmdb/queue/state.h"
#include "lmdb/record/blobs.h"
#include "lmdb/record/segments.h"

#include <stdlib.h>

#include "base/clock.h"

/* ---- blobs in use ------------------------------------------------------- */

static bool is_sound(salvage *s, blob_ref b) {
  if (b.size == 0 || b.size > (uint64_t)1 << 31) return false;
  void *into = malloc(b.size);
  if (!into) txn_fail(s->t, RESPOOL_NOMEM);
  bool sound = into && blob_get(s->t, b, into);
  free(into);
  return sound;
}

static void use(salvage *s, blob_ref b) {
  if (!id_set_add(&s->used, b.number)) txn_fail(s->t, RESPOOL_NOMEM);
}

bool salvage_has_blob(salvage *s, blob_ref b) {
  return id_set_has(&s->used, b.number);
}

/* ---- references --------------------------------------------------------- */

typedef void (*refer_fn)(salvage *s, blob_ref b);

static void refer_segment(salvage *s, const cur *c, refer_fn refer) {
  segment g;
  bits unsettled;
  respool_bytes v;
  if (!segment_open(c->key, c->value, &g)) return;
  if (!txn_get(s->t, DB_REMAINING, c->key, &v) ||
      !bits_unpack(c->key, v, (uint32_t)g.count, &unsettled))
    bits_fill(&unsettled, (uint32_t)g.count);
  for (uint32_t i = 0; i < g.count; i++) {
    item it;
    blob_ref b;
    if (!item_unpack(&g.items, &it, &b)) return;
    if (b.number && bits_has(&unsettled, i)) refer(s, b);
  }
}

static void refer_dead(salvage *s, const cur *c, refer_fn refer) {
  dead_reader r;
  if (!dead_run_open(c->key, c->value, &r)) return;
  while (dead_run_next(&r)) {
    blob_ref b = blob_of(r.l.item);
    if (b.number) refer(s, b);
  }
}

static void refer_history(salvage *s, const cur *c, refer_fn refer) {
  respool_item_about i;
  item it;
  blob_ref b = {0, 0};
  unpacker u;
  if (history_unpack(c->key, c->value, &i, &u)) item_unpack(&u, &it, &b);
  if (b.number) refer(s, b);
}

static void each_record(salvage *s, enum db db,
                        void (*look)(salvage *s, const cur *c, refer_fn refer),
                        refer_fn refer) {
  cur c;
  cur_open(&c, s->t, db);
  for (bool more = cur_first(&c); more; more = cur_next(&c))
    look(s, &c, refer);
  cur_close(&c);
}

static void find_used(salvage *s, refer_fn refer) {
  s->used.n = 0;
  each_record(s, DB_SEGMENTS, refer_segment, refer);
  each_record(s, DB_DEAD_LETTERS, refer_dead, refer);
  each_record(s, DB_HISTORY, refer_history, refer);
}

/* ---- blobs without a reference ------------------------------------------ */

/* The first number above `after`; 0: there is none. */
static uint64_t next_blob(salvage *s, uint64_t after) {
  key start = blob_key(after + 1, 0);
  uint64_t number;
  uint32_t part;
  respool_bytes found, v;
  return txn_seek(s->t, DB_BLOBS, key_bytes(&start), &found, &v) &&
                 blob_key_read(found, &number, &part)
             ? number : 0;
}

static uint64_t size_of(salvage *s, uint64_t number) {
  key start = blob_key(number, 0);
  uint64_t found, size = 0;
  uint32_t part;
  respool_bytes data;
  cur c;
  cur_open(&c, s->t, DB_BLOBS);
  bool more = cur_seek(&c, key_bytes(&start));
  for (; more && blob_key_read(c.key, &found, &part) && found == number;
       more = cur_next(&c))
    if (part_unpack(c.key, c.value, &data)) size += data.size;
  cur_close(&c);
  return size;
}

/* Appends an item whose queue and time are not known. */
static void adopt(salvage *s, blob_ref b) {
  queue *q = salvage_queue(s);
  struct clock now;
  packer p;
  if (!q) return;
  clock_init(&now, false);
  place to = {{q->id, SPACE_READY, 0}, q->next_id++, 1};
  respool_item_about i = {.pushed_at = clock_now(&now)};
  packer_init(&p);
  item_pack_ref(&p, b);
  txn_fail(s->t, p.rc);
  if (!p.rc) segment_put_one(s->t, q, &to, (respool_bytes){p.data, p.len}, &i);
  packer_free(&p);
  queue_changed(s->t, q);
  s->out->nameless++;
}

/* Reports damaged blobs. Those found by searching the whole file may be the
   remains of settled items: then they are not counted as lost. */
static void lose(salvage *s, uint64_t n, bool sure) {
  bool holes = s->hole[DB_SEGMENTS] || s->hole[DB_DEAD_LETTERS] ||
               s->hole[DB_HISTORY];
  if (!n || !holes) return;
  if (sure) s->out->lost_items += n;
  salvage_say(s, "%s: %llu large item%s whose segment or dead letter is lost",
              sure ? "lost" : "perhaps lost", ULL(n),
              n == 1 ? "" : "s");
}

static void use_sound(salvage *s, blob_ref b) {
  if (is_sound(s, b)) use(s, b);
}

void salvage_blobs(salvage *s) {
  bool sure = !s->hole[DB_BLOBS] || s->idle_known;
  uint64_t number = 0, lost = 0;
  find_used(s, use);
  while (!s->t->rc && (number = next_blob(s, number))) {
    if (id_set_has(&s->used, number)) continue;
    blob_ref b = {number, size_of(s, number)};
    if (is_sound(s, b)) {
      adopt(s, b);
    } else {
      blob_del(s->t, number);
      lost++;
    }
  }
  lose(s, lost, sure);
  find_used(s, use_sound);
}

void salvage_sweep_blobs(salvage *s) {
  uint64_t number = 0;
  find_used(s, use);
  while (!s->t->rc && (number = next_blob(s, number)))
    if (!id_set_has(&s->used, number)) blob_del(s->t, number);
}

/* SPDX-License-Identifier: MIT */
/*
 * Makes the invariants hold in the queues of a salvaged store (see salvage.h),
 * from their segments, bitmaps and claims alone: all that can be derived from
 * these is made anew. The numbers I1, I2, ... are those of doc/format.md.
 */
#include "lmdb/repair/rebuild_queues.h"

#include "lmdb/env/txn/cur.h"
#include "lmdb/partition/partitions.h"
#include "lmdb/queue/claims.h"
#include "lmdb/queue/history.h"
#include "lmdb/queue/results.h"
#include "lmdb/queue/state.h"
#include "lmdb/record/blobs.h"
#include "lmdb/record/names.h"
#include "lmdb/record/segments.h"
#include "lmdb/repair/rebuild_blobs.h"
#include "lmdb/unit/end_items.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A queue being rebuilt. */
typedef struct rebuild {
  salvage *s;
  txn *t;
  queue *q;
  uint64_t heads[RESPOOL_PRIORITIES];
  uint64_t counted;    /* items by its record */
  uint64_t unsettled; /* items found */
  uint64_t highest; /* id */
} rebuild;

/* Calls `each` for the segments that hold an id of a range; `each` may delete
   them. */
typedef void (*segment_fn)(rebuild *r, const segment_cursor *w);

static void each_segment(rebuild *r, const line *l, uint64_t from,
                         uint64_t upto, segment_fn each) {
  for (;;) {
    segment_cursor w;
    segments_open(&w, r->t, l, from);
    bool found = segments_next(&w) && w.at.first <= upto;
    if (found) each(r, &w);
    from = found ? place_last(&w.at) + 1 : 0;
    segments_close(&w);
    if (!found) return;
  }
}

static void settle_one(rebuild *r, const line *l, uint64_t id) {
  segments_settle(r->t, r->q, l, &id, 1);
}

/* ---- damage within segments --------------------------------------------- */

static void lose_item(rebuild *r, const line *l, uint64_t id) {
  r->s->out->lost_items++;
  salvage_say(r->s, "lost: item %llu of queue '%.200s', whose blob is "
              "damaged", ULL(id), r->q->name);
  settle_one(r, l, id);
}

/* Turns the segment's bytes into a dead letter, as a take would. */
static void set_aside(rebuild *r, const segment_cursor *w) {
  item_reader c = {.line = w->at.line,
                   .from = w->at.first,
                   .upto = place_last(&w->at),
                   .now = r->q->clock_last,
                   .at = w->at};
  claim cl;
  place p;
  bool covered = claim_cover(r->t, &w->at.line, w->at.first, &p, &cl);
  salvage_say(r->s,
              "set aside: %u item%s of queue '%.200s' from id %llu, "
              "whose segment is damaged",
              w->unsettled.set, w->unsettled.set == 1 ? "" : "s", r->q->name,
              ULL(w->at.first));
  r->s->out->set_aside += w->unsettled.set;
  r->s->out->dead_letters++;
  arena a;
  arena_init(&a);
  if (covered) claim_own(r->t, &a, &cl);
  end_unreadable(r->t, r->q, &c, READ_DAMAGED, covered ? &cl : NULL);
  arena_free(&a);
}

static void check_blobs(rebuild *r, const segment_cursor *w,
                        respool_bytes copy) {
  segment g;
  key k = segment_key(&w->at);
  if (!segment_open(key_bytes(&k), copy, &g)) {
    set_aside(r, w);
    return;
  }
  for (uint32_t i = 0; i < w->at.count; i++) {
    item it;
    blob_ref b;
    bool whole = item_unpack(&g.items, &it, &b);
    if (bits_has(&w->unsettled, i) &&
        (!whole || (b.number && !salvage_has_blob(r->s, b))))
      lose_item(r, &w->at.line, w->at.first + i);
    if (!whole) return;
  }
}

/* Checks a copy of a segment's items, as losing an item moves the segment. */
static void look_into(rebuild *r, const segment_cursor *w) {
  arena a;
  respool_bytes copy;
  arena_init(&a);
  int rc = arena_copy(&a, w->value, &copy);
  txn_fail(r->t, rc);
  if (w->unsettled.set == 0)
    salvage_remove_segment(r->t, &w->at);
  else if (!rc)
    check_blobs(r, w, copy);
  arena_free(&a);
}

/* ---- I3: claims --------------------------------------------------------- */

/* Where the next claim of a line begins; UINT64_MAX: there is none. */
static uint64_t next_claim(rebuild *r, place *p) {
  line l = p->line;
  key k = claim_key(p);
  respool_bytes found, v;
  return txn_seek(r->t, DB_CLAIMS, key_bytes(&k), &found, &v) &&
                 claim_key_read(found, p) && same_line(&p->line, &l)
             ? p->first : UINT64_MAX;
}

static void renew_lease(rebuild *r, claim *c) {
  if (c->state == CLAIM_WAITING) return;
  c->state = CLAIM_WAITING;
  c->token = 0;
  c->visible_at = r->q->clock_last;
}

static void note_claim(rebuild *r, const line *l, const claim *c) {
  priority_count(r->t, r->q, l->priority, COUNT_NONE, claim_count(c),
                 c->left);
  if (l->space == SPACE_READY && c->last >= r->heads[l->priority])
    r->heads[l->priority] = c->last + 1;
  r->unsettled += c->left;
}

/* Corrects a claim: it ends where the next begins, and counts its items. */
static void mend_claim(rebuild *r, const place *p, uint64_t end) {
  claim c;
  arena a;
  key k = claim_key(p);
  arena_init(&a);
  if (!claim_get(r->t, p, &c)) return;
  claim_own(r->t, &a, &c);
  if (c.last >= end) c.last = end - 1;
  c.left = count_unsettled(r->t, &p->line, p->first, c.last);
  renew_lease(r, &c);
  if (c.left) {
    claim_put(r->t, p, &c);
    note_claim(r, &p->line, &c);
  } else
    txn_del(r->t, DB_CLAIMS, key_bytes(&k));
  arena_free(&a);
}

static void mend_claims(rebuild *r, const line *l) {
  place p = {*l, 0, 0};
  uint64_t first = next_claim(r, &p);
  while (first != UINT64_MAX && !r->t->rc) {
    place here = {*l, first, 0}, next = {*l, first + 1, 0};
    first = next_claim(r, &next);
    mend_claim(r, &here, first);
  }
}

/* ---- I2: items that no claim covers ------------------------------------- */

/* Was an item that no claim covers settled? Yes, if all claims were recovered
   and its segment is explained: its bitmap is lost, or it is an older copy. */
static bool was_settled(const salvage *s) {
  bool all_claims = !s->hole[DB_CLAIMS] && !s->hole[DB_QUEUES];
  bool older = s->hole[DB_SEGMENTS] && !s->idle_known;
  return all_claims && (s->hole[DB_REMAINING] || older);
}

/* Covers items [first, last] of a segment, `n` of them unsettled, by a claim,
   or settles them. */
static void take_in(rebuild *r, const line *l, uint64_t first, uint64_t last,
                    uint64_t n) {
  place p = {*l, first, 0};
  claim c = {.last = last, .state = CLAIM_WAITING, .left = n,
             .visible_at = r->q->clock_last};
  if (IS_PARTED(l) || !was_settled(r->s)) { /* partitions' need none */
    claim_put(r->t, &p, &c);
    note_claim(r, l, &c);
    return;
  }
  r->s->out->settled += n;
  for (uint64_t id = first; id <= last; id++)
    if (first_unsettled(r->t, l, id) == id) settle_one(r, l, id);
}

static bool is_covered(rebuild *r, const line *l, uint64_t id) {
  place p;
  claim c;
  return claim_cover(r->t, l, id, &p, &c);
}

static void cover_segment(rebuild *r, const segment_cursor *w) {
  const line *l = &w->at.line;
  uint64_t head = l->space == SPACE_READY ? r->heads[l->priority] : UINT64_MAX;
  uint64_t first = 0, last = 0, n = 0, id = w->at.first;
  for (; id <= place_last(&w->at) && id < head; id++) {
    bool unsettled = bits_has(&w->unsettled, (uint32_t)(id - w->at.first));
    bool covered = unsettled && is_covered(r, l, id);
    if (covered && n) take_in(r, l, first, last, n);
    if (covered) n = 0;
    if (!unsettled || covered) continue;
    if (!n++) first = id;
    last = id;
  }
  if (n) take_in(r, l, first, last, n);
}

/* ---- partitions --------------------------------------------------------- */

/* The item of a segment, for its partition's sake. */
static bool read_partition(rebuild *r, arena *a, segment *g,
                           respool_item_about *out) {
  item it;
  blob_ref b;
  unpacker u;
  if (!item_unpack(&g->items, &it, &b)) return false;
  if (b.number) {
    void *into = arena_alloc(a, b.size);
    if (!into || !blob_get(r->t, b, into)) return false;
    unpacker_init(&u, into, b.size);
    if (!item_unpack(&u, &it, &b)) return false;
  }
  out->partition = it.partition;
  return true;
}

/* Items of partitions wait under their claims now, and the next take brings
   them to their partitions, which are made anew. */
static void note_partitions(rebuild *r, const segment_cursor *w) {
  arena a;
  respool_bytes copy;
  segment g;
  key k = segment_key(&w->at);
  if (!IS_PARTED(&w->at.line)) return;
  arena_init(&a);
  txn_fail(r->t, arena_copy(&a, w->value, &copy));
  bool open = !r->t->rc && segment_open(key_bytes(&k), copy, &g);
  place at = w->at;
  bits unsettled = w->unsettled;
  for (uint32_t i = 0; open && i < at.count; i++) {
    respool_item_about about = {.partition = {NULL, 0}};
    respool_item one = {.id = at.first + i, .about = &about};
    if (!read_partition(r, &a, &g, &about)) break;
    if (bits_has(&unsettled, i))
      partition_move(r->t, r->q, &at.line, &one, COUNT_NONE, COUNT_SCHEDULED);
  }
  arena_free(&a);
}

/* ---- priorities and counts: I5 ------------------------------------------ */

static void count_bytes(rebuild *r, const segment_cursor *w) {
  segment g;
  r->q->bytes += w->value.size;
  if (!segments_read(w, &g)) return;
  for (uint32_t i = 0; i < w->at.count; i++) {
    item it;
    blob_ref b;
    if (!item_unpack(&g.items, &it, &b)) return;
    if (!b.number || !bits_has(&w->unsettled, i)) continue;
    r->q->bytes += b.size;
  }
}

static void count_segment(rebuild *r, const segment_cursor *w) {
  const line *l = &w->at.line;
  uint64_t n = 0, head = r->heads[l->priority];
  int64_t expires_at = segment_expiry(w->value);
  count_bytes(r, w);
  for (uint32_t i = 0; i < w->at.count; i++)
    n += bits_has(&w->unsettled, i) && w->at.first + i >= head;
  if (place_last(&w->at) > r->highest) r->highest = place_last(&w->at);
  if (expires_at) {
    key k = expiry_key(&w->at, expires_at);
    txn_put_null(r->t, DB_EXPIRIES, key_bytes(&k));
  }
  if (l->space != SPACE_READY || !n) return;
  priority_count(r->t, r->q, l->priority, COUNT_NONE, COUNT_READY, n);
  r->unsettled += n;
}

/* Lost items count as removed; items beyond the number that was pushed count as
   pushed again. */
static void balance(rebuild *r) {
  respool_queue_stats *c = &r->q->counters;
  uint64_t gone = c->done + c->died + c->expired + c->removed;
  if (c->pushed > gone + r->unsettled)
    c->removed += c->pushed - gone - r->unsettled;
  else
    c->pushed = gone + r->unsettled;
}

static void count_history(rebuild *r) {
  respool_queue_stats *c = &r->q->counters;
  key start = history_key(r->q->id, 0, 0);
  uint32_t of;
  int64_t at;
  uint64_t id;
  cur cu;
  c->kept = c->kept_bytes = 0;
  cur_open(&cu, r->t, DB_HISTORY);
  bool more = cur_seek(&cu, key_bytes(&start));
  for (; more && history_key_read(cu.key, &of, &at, &id) && of == r->q->id;
       more = cur_next(&cu)) {
    if (id > r->highest) r->highest = id;
    c->kept++;
    c->kept_bytes += cu.value.size + history_blob(cu.key, cu.value).size +
                     result_size(r->t, r->q, id);
  }
  cur_close(&cu);
}

/* ---- windows ------------------------------------------------------------ */

static void mend_windows(rebuild *r) {
  name_key start = unique_key(r->q->id, (respool_bytes){"", 0});
  cur c;
  cur_open(&c, r->t, DB_KEYS);
  bool more = cur_seek(&c, name_key_bytes(&start));
  for (; more && c.key.size > 4 && !memcmp(c.key.data, start.b, 4);
       more = cur_next(&c)) {
    const uint8_t *b = c.key.data;
    key_owner h;
    if (!owner_unpack(c.key, c.value, &h) || !h.until) continue;
    respool_bytes name = {b + 4, c.key.size - 4};
    name_key k = window_key(r->q->id, h.until, name);
    txn_put_null(r->t, DB_WINDOWS, name_key_bytes(&k));
  }
  cur_close(&c);
}

/* ---- a queue ------------------------------------------------------------ */

static void take_heads(rebuild *r) {
  for (size_t i = 0; i < r->q->n_priorities; i++) {
    const priority_state *l = &r->q->priorities[i];
    r->heads[l->priority] = l->head;
    r->counted += priority_items(l);
  }
  free(r->q->priorities);
  r->q->priorities = NULL;
  r->q->n_priorities = 0;
}

static void give_heads(rebuild *r) {
  for (size_t i = 0; i < r->q->n_priorities; i++)
    r->q->priorities[i].head = r->heads[r->q->priorities[i].priority];
}

/* Calls `each` for every line of the queue, also empty ones. */
static void each_place(rebuild *r, void (*each)(rebuild *r, const line *l)) {
  for (int space = 0; space < SPACE_COUNT; space++)
    for (int priority = 0; priority < RESPOOL_PRIORITIES &&
         !r->t->rc; priority++) {
      line l = {r->q->id, space, priority};
      each(r, &l);
    }
}

static void each_space(rebuild *r, segment_fn each) {
  for (int space = 0; space < SPACE_COUNT; space++)
    for (int priority = 0; priority < RESPOOL_PRIORITIES &&
         !r->t->rc; priority++)
      each_segment(r, &(line){r->q->id, space, priority}, 0, UINT64_MAX, each);
}

/* Reports damage that only the counts show, as in a bitmap. A queue to which
   nothing was pushed was made by the repair. */
static void compare(const rebuild *r) {
  if (r->unsettled == r->counted || r->s->hole[DB_QUEUES] ||
      !r->q->counters.pushed)
    return;
  if (r->unsettled < r->counted) r->s->fewer_items += r->counted - r->unsettled;
  salvage_say(r->s,
              "counted: queue '%.200s' has %llu items, where its "
              "record says %llu%s",
              r->q->name, ULL(r->unsettled), ULL(r->counted),
              r->unsettled > r->counted ? "; settled items may be back"
                                        : "");
}

static void rebuild_queue(salvage *s, queue *q) {
  rebuild r = {.s = s, .t = s->t, .q = q};
  take_heads(&r);
  each_space(&r, look_into);
  each_place(&r, mend_claims);
  each_space(&r, cover_segment);
  q->n_partitions = q->n_lones = q->n_runs = 0;
  each_space(&r, note_partitions);
  q->bytes = 0;
  each_space(&r, count_segment);
  count_history(&r);
  mend_windows(&r);
  give_heads(&r);
  compare(&r);
  balance(&r);
  if (r.highest >= q->next_id) q->next_id = r.highest + 1;
  s->out->items += r.unsettled;
  s->out->queues++;
  queue_changed(s->t, q);
}

static void rebuild_named(salvage *s, const char *name) {
  int rc = 0;
  queue *q = queue_find(s->t, name, &rc);
  if (q) rebuild_queue(s, q);
}

void salvage_queues(salvage *s) {
  salvage_each(s, NAMES_QUEUES, rebuild_named);
}

/* SPDX-License-Identifier: MIT */
/*
 * Checking the invariants from the records alone; doc/format.md numbers them.
 * The trees come first, as every look-up relies on them: where one is damaged
 * nothing else is checked, as records that are there would be reported as
 * lost. Changes nothing. Each finding is one line of text.
 */
#include "lmdb/repair/check.h"

#include "lmdb/dead/dead_cursor.h"
#include "lmdb/dead/dead_letters.h"
#include "lmdb/env/open.h"
#include "lmdb/env/txn/cur.h"
#include "lmdb/queue/claims.h"
#include "lmdb/queue/state.h"
#include "lmdb/record/blobs.h"
#include "lmdb/record/segments.h"
#include "lmdb/repair/check_partitions.h"

#include <stdlib.h>
#include <string.h>

typedef struct audit {
  txn *t;
  packer *out;
  queue *q;          /* being checked */
  uint64_t unsettled; /* its items, as counted */
  uint64_t listed;    /* of a priority, those of partitions without a claim */
} audit;

#define found(a, ...) pack_finding((a)->out, __VA_ARGS__)
#define ULL(n) ((unsigned long long)(n))
#define PLACE "queue '%s' space %d priority %d id %llu"
#define PLACE_OF(a, p) (a)->q->name, (p)->line.space, (p)->line.priority, \
                       ULL((p)->first)

/* ---- the trees under the records ---------------------------------------- */

/* The table that a record lies in; `k` becomes its key there. DB_COUNT: its key
   is damaged. */
static enum db table_of(int which, respool_bytes *k) {
  const uint8_t *b = k->data;
  if (!tree_shared(which)) return (enum db)which;
  if (!k->size || b[0] < DB_QUEUES || b[0] >= DB_COUNT) return DB_COUNT;
  *k = (respool_bytes){b + 1, k->size - 1};
  return (enum db)b[0];
}

/* Does a search for the record's key find it where the cursor is? */
static bool is_found(const cur *c, int which) {
  respool_bytes v;
  return txn_get_in(c->t, which, c->key, &v) && v.data == c->value.data;
}

/* Reads a tree as long as keys rise and each is found by a search: where a page
   lies in the place of another, pages may lead in a circle. True at the end. */
static bool walk_tree(audit *a, int which, uint64_t *n) {
  respool_bytes before = {"", 0};
  bool good = true;
  cur c;
  cur_open_tree(&c, a->t, which);
  bool more = cur_first(&c);
  for (*n = 0; more && good; *n += good) {
    respool_bytes k = c.key;
    good = key_rises(before, c.key) && is_found(&c, which);
    if (good && table_of(which, &k) == DB_COUNT)
      found(a, "a record of '%s' has a key that is in no table",
            tree_name(which));
    before = c.key;
    more = cur_next(&c);
  }
  cur_close(&c);
  return good || a->t->rc;
}

static bool check_tree(audit *a, int which) {
  uint64_t n, counted = txn_entries(a->t, which);
  bool sound = walk_tree(a, which, &n);
  if (a->t->rc || (sound && n == counted)) return true;
  if (sound)
    found(a, "database '%s' counts %llu records, there are %llu",
          tree_name(which), ULL(counted), ULL(n));
  else
    found(a, "database '%s' is out of order: of %llu records a search "
          "finds only the first %llu",
          tree_name(which), ULL(counted), ULL(n));
  return false;
}

static bool check_trees(audit *a) {
  bool sound = true;
  for (int i = 0; i < TREE_COUNT; i++) sound = check_tree(a, i) && sound;
  return sound;
}

/* ---- segments: I1, I2, I4 and their checksums --------------------------- */

static bool blob_sound(audit *a, blob_ref r) {
  void *into = r.size <= (uint64_t)SIZE_MAX ? malloc(r.size) : NULL;
  bool sound = into && blob_get(a->t, r, into);
  free(into);
  return sound;
}

static void check_items(audit *a, const segment_cursor *w) {
  segment g;
  if (!segments_read(w, &g)) {
    found(a, "the segment at " PLACE " is damaged: its checksum does not "
          "hold", PLACE_OF(a, &w->at));
    return;
  }
  for (uint32_t i = 0; i < w->at.count; i++) {
    item it;
    blob_ref r;
    if (!item_unpack(&g.items, &it, &r)) {
      found(a, "item %u of the segment at " PLACE " is malformed", i,
            PLACE_OF(a, &w->at));
      return;
    }
    if (r.number && bits_has(&w->unsettled, i) && !blob_sound(a, r))
      found(a, "blob %llu of " PLACE " is damaged", ULL(r.number),
            PLACE_OF(a, &w->at));
  }
}

/* Every unsettled item below the head, and every one of spaces 1, 2 and 4, is
   in exactly one claim; items at or above the head are in none. Those of space
   3 may be. */
static void check_cover(audit *a, const segment_cursor *w) {
  const priority_state *l = queue_priority(a->q, w->at.line.priority);
  uint64_t head = w->at.line.space == SPACE_READY
                      ? (l ? l->head : UINT64_MAX) : UINT64_MAX;
  for (uint32_t i = 0; i < w->at.count; i++) {
    place p;
    claim c;
    uint64_t id = w->at.first + i;
    if (!bits_has(&w->unsettled, i)) continue;
    bool covered = claim_cover(a->t, &w->at.line, id, &p, &c);
    bool listed = !covered && w->at.line.space == SPACE_PARTED;
    a->listed += listed;
    if (listed && l && id < l->listed)
      found(a, "item %llu in " PLACE " lies before the first that is listed",
            ULL(id), PLACE_OF(a, &w->at));
    if (covered == (id >= head) && w->at.line.space != SPACE_PARTED)
      found(a, "item %llu in " PLACE " is %s a claim", ULL(id),
            PLACE_OF(a, &w->at), covered ? "new but in" : "not in");
    a->unsettled++;
  }
}

static void check_segment(audit *a, const segment_cursor *w,
                          const place *before) {
  if (same_line(&w->at.line, &before->line) && before->count &&
      place_last(before) >= w->at.first)
    found(a, "segments overlap at " PLACE, PLACE_OF(a, &w->at));
  if (w->unsettled.set == 0)
    found(a, "the segment at " PLACE " has no unsettled item",
          PLACE_OF(a, &w->at));
  if (place_last(&w->at) >= a->q->next_id)
    found(a, "the segment at " PLACE " lies beyond the next id",
          PLACE_OF(a, &w->at));
  check_items(a, w);
  check_cover(a, w);
}

static void check_segments(audit *a, int space, int priority) {
  line l = {a->q->id, space, priority};
  place before = {.count = 0};
  segment_cursor w;
  segments_open(&w, a->t, &l, 0);
  while (segments_next(&w)) {
    check_segment(a, &w, &before);
    before = w.at;
  }
  segments_close(&w);
}

/* ---- claims: I3 and their counts ---------------------------------------- */

static void check_claim(audit *a, const place *p, const claim *c) {
  respool_bytes v;
  key k = due_key_of(p, c->visible_at);
  uint64_t unsettled = count_unsettled(a->t, &p->line, p->first, c->last);
  if (unsettled != c->left)
    found(a, "the claim at " PLACE " counts %llu items, there are %llu",
          PLACE_OF(a, p), ULL(c->left), ULL(unsettled));
  bool due = txn_get(a->t, DB_DUE, key_bytes(&k), &v);
  if (due && c->state == CLAIM_PARKED)
    found(a, "the claim at " PLACE " is parked but has a due time",
          PLACE_OF(a, p));
  if (!due && c->state != CLAIM_PARKED)
    found(a, "the claim at " PLACE " has no due time", PLACE_OF(a, p));
  if (token_number(c->token) >= a->q->next_token)
    found(a, "the claim at " PLACE " has a token from the future",
          PLACE_OF(a, p));
}

static void count_claim(const place *p, const claim *c,
                        priority_state *sums) {
  priority_state *s = &sums[p->line.priority];
  if (c->state == CLAIM_LEASED)
    s->leased += c->left;
  else if (c->state == CLAIM_PARKED)
    s->ready += c->left;
  else if (claim_has_failed(c))
    s->retrying += c->left;
  else
    s->scheduled += c->left;
}

static void check_claims(audit *a, priority_state *sums) {
  place from = {{a->q->id, 0, 0}, 0, 0}, p, before = {.line.priority = -1};
  key start = claim_key(&from);
  claim c;
  uint64_t last = 0;
  cur at;
  cur_open(&at, a->t, DB_CLAIMS);
  bool more = cur_seek(&at, key_bytes(&start));
  for (; more && claim_key_read(at.key, &p) && p.line.queue == a->q->id;
       more = cur_next(&at)) {
    if (!claim_unpack(at.key, at.value, &c)) {
      found(a, "the claim at " PLACE " is damaged: its checksum does not hold",
            PLACE_OF(a, &p));
      continue;
    }
    if (same_line(&p.line, &before.line) && last >= p.first)
      found(a, "claims overlap at " PLACE, PLACE_OF(a, &p));
    check_claim(a, &p, &c);
    count_claim(&p, &c, sums);
    before = p;
    last = c.last;
  }
  cur_close(&at);
}

/* ---- a queue: I5 -------------------------------------------------------- */

static void check_priority(audit *a, const priority_state *l,
                       const priority_state *sums) {
  line here = {a->q->id, SPACE_READY, l->priority};
  const priority_state *sum = &sums[l->priority];
  uint64_t fresh = count_unsettled(a->t, &here, l->head, UINT64_MAX) +
                   sum->ready + a->listed;
  if (fresh != l->ready || l->leased != sum->leased ||
      l->scheduled != sum->scheduled || l->retrying != sum->retrying)
    found(a, "queue '%s' priority %d counts %llu ready, %llu leased, %llu "
          "scheduled, %llu retrying; there are %llu, %llu, %llu, %llu",
          a->q->name, l->priority, ULL(l->ready), ULL(l->leased),
          ULL(l->scheduled), ULL(l->retrying), ULL(fresh), ULL(sum->leased),
          ULL(sum->scheduled), ULL(sum->retrying));
}

static void check_balance(audit *a) {
  const respool_queue_stats *s = &a->q->counters;
  uint64_t gone = s->done + s->died + s->expired + s->removed;
  if (s->pushed != gone + a->unsettled)
    found(a,
          "queue '%s' was pushed %llu items; %llu are gone and %llu "
          "are there",
          a->q->name, ULL(s->pushed), ULL(gone), ULL(a->unsettled));
}

static void check_queue(audit *a, queue *q) {
  a->q = q;
  a->unsettled = 0;
  priority_state *sums = calloc(RESPOOL_PRIORITIES, sizeof *sums);
  if (!sums) {
    txn_fail(a->t, RESPOOL_NOMEM);
    return;
  }
  check_claims(a, sums);
  for (size_t i = 0; i < q->n_priorities; i++) {
    a->listed = 0;
    for (int space = 0; space < SPACE_COUNT; space++)
      check_segments(a, space, q->priorities[i].priority);
    check_priority(a, &q->priorities[i], sums);
  }
  check_balance(a);
  check_partitions(a->t, q, a->out);
  free(sums);
}

static void check_queues(audit *a) {
  cur c;
  cur_open(&c, a->t, DB_QUEUES);
  for (bool more = cur_first(&c); more && !a->t->rc; more = cur_next(&c)) {
    char name[RESPOOL_NAME_MAX + 1];
    int rc = 0;
    size_t n = c.key.size < sizeof name ? c.key.size : 0;
    memcpy(name, c.key.data, n);
    name[n] = '\0';
    queue *q = n ? queue_find(a->t, name, &rc) : NULL;
    if (q)
      check_queue(a, q);
    else if (!a->t->rc)
      found(a, "the record of a queue has no name that a queue can have");
  }
  cur_close(&c);
}

/* ---- records that belong to others -------------------------------------- */

static void check_due(audit *a) {
  due_key d;
  claim cl;
  cur c;
  cur_open(&c, a->t, DB_DUE);
  for (bool more = cur_first(&c); more; more = cur_next(&c))
    if (!due_key_read(c.key, &d) || !claim_look(a->t, &d.claim, &cl) ||
        cl.visible_at != d.at)
      found(a, "a due time at id %llu of queue %u belongs to no claim",
            ULL(d.claim.first), d.claim.line.queue);
  cur_close(&c);
}

static void check_remaining(audit *a) {
  place p;
  respool_bytes v;
  bits b;
  cur c;
  cur_open(&c, a->t, DB_REMAINING);
  for (bool more = cur_first(&c); more; more = cur_next(&c))
    if (!segment_key_read(c.key, &p) ||
        !txn_get(a->t, DB_SEGMENTS, c.key, &v))
      found(a, "a bitmap at id %llu of queue %u belongs to no segment",
            ULL(p.first), p.line.queue);
    else if (!bits_unpack(c.key, c.value, p.count, &b))
      found(a, "the bitmap at id %llu of queue %u is damaged: its checksum "
            "does not hold", ULL(p.first), p.line.queue);
  cur_close(&c);
}

static void found_damaged(audit *a, const dlq *x, uint64_t last,
                          uint64_t count) {
  if (count == 1)
    found(a, "dead letter %llu of DLQ '%s' is damaged: its checksum does not "
          "hold", ULL(last), x->name);
  else
    found(a, "dead letters %llu to %llu of DLQ '%s' are damaged: their "
          "checksum does not hold", ULL(dead_first_of(last, count)), ULL(last),
          x->name);
}

/* Whether a record is sound. */
static bool check_run(audit *a, const dlq *x, uint64_t last, uint64_t count,
                      const cur *c) {
  dead_reader r;
  if (!dead_run_is_sound(c->key, c->value, last, count)) {
    found_damaged(a, x, last, count);
    return false;
  }
  dead_run_open(c->key, c->value, &r);
  while (dead_run_next(&r)) {
    blob_ref b = blob_of(r.l.item);
    if (b.number && !blob_sound(a, b))
      found(a, "blob %llu of dead letter %llu of DLQ '%s' is damaged",
            ULL(b.number), ULL(r.l.r.number), x->name);
  }
  return true;
}

/* Bytes are compared only where all records are sound: a damaged one does not
   say which blobs are its own. */
static void check_dead_letters(audit *a, const dlq *x) {
  key start = dead_key(x->id, 0, 0);
  uint32_t of;
  uint64_t last, count, n = 0, bytes = 0;
  cur c;
  cur_open(&c, a->t, DB_DEAD_LETTERS);
  bool more = cur_seek(&c, key_bytes(&start)), sound = true;
  for (; more && dead_key_read(c.key, &of, &last, &count) && of == x->id;
       more = cur_next(&c)) {
    sound = check_run(a, x, last, count, &c) && sound;
    n += count;
    bytes += dead_run_weight(c.key, c.value);
  }
  cur_close(&c);
  if (n != x->count)
    found(a, "DLQ '%s' counts %llu dead letters, there are %llu", x->name,
          ULL(x->count), ULL(n));
  else if (sound && x->bytes != DLQ_UNMEASURED && x->bytes != bytes)
    found(a, "DLQ '%s' counts %llu bytes of dead letters, there are %llu",
          x->name, ULL(x->bytes), ULL(bytes));
}

static void check_dlqs(audit *a) {
  cur c;
  cur_open(&c, a->t, DB_DLQS);
  for (bool more = cur_first(&c); more; more = cur_next(&c)) {
    dlq x = {.count = 0};
    size_t n = c.key.size < sizeof x.name ? c.key.size : 0;
    memcpy(x.name, c.key.data, n);
    if (!n)
      found(a, "the record of a DLQ has no name that a DLQ can have");
    else if (dlq_unpack(c.key, c.value, &x))
      check_dead_letters(a, &x);
    else
      found(a, "the record of DLQ '%s' is damaged", x.name);
  }
  cur_close(&c);
}

/* Rows of the store's own have a few numbers each. */
static bool is_row(const cur *c) {
  const uint8_t *b = c->value.data;
  uint64_t row[8];
  size_t n = c->value.size && b[0] > 0x80 ? b[0] - 0x81u : 9;
  return phrase_is(c->key, "format") || phrase_is(c->key, "store") ||
         (n <= 8 && row_unpack(c->key, c->value, row, n));
}

/* Records that stand for themselves: replays, keys, notes, entries, history,
   and the store's own. */
static bool is_sound(enum db db, const cur *c) {
  respool_replay j;
  key_owner h;
  entry e;
  respool_bytes note;
  respool_item_about i;
  unpacker u;
  switch (db) {
    case DB_META: return is_row(c);
    case DB_REPLAYS: return named_replay_unpack(c->key, c->value, &j);
    case DB_KEYS: return owner_unpack(c->key, c->value, &h);
    case DB_ENTRIES: return entry_unpack(c->key, c->value, &e);
    case DB_NOTES: return note_unpack(c->key, c->value, &note);
    default: return history_unpack(c->key, c->value, &i, &u);
  }
}

static void check_records(audit *a, enum db db) {
  uint64_t n = 0;
  cur c;
  cur_open(&c, a->t, db);
  for (bool more = cur_first(&c); more; more = cur_next(&c))
    n += !is_sound(db, &c);
  cur_close(&c);
  if (n)
    found(a, "table '%s' has damaged records: the checksums of %llu do not "
          "hold", db_name(db), ULL(n));
}

int lmdb_check(txn *t, packer *findings) {
  audit a = {.t = t, .out = findings};
  if (check_trees(&a)) {
    check_queues(&a);
    check_due(&a);
    check_remaining(&a);
    check_dlqs(&a);
    check_records(&a, DB_META);
    check_records(&a, DB_REPLAYS);
    check_records(&a, DB_KEYS);
    check_records(&a, DB_NOTES);
    check_records(&a, DB_ENTRIES);
    check_records(&a, DB_HISTORY);
  }
  txn_fail(t, findings->rc);
  return t->rc;
}

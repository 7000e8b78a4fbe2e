/* SPDX-License-Identifier: MIT */
/*
 * Copying the records of a damaged store; see salvage.h. The trees come first:
 * they hold the last commit. Where a tree could not be read completely, leaves
 * that no tree leads to, or that are damaged, are searched for records of its
 * kind, which are recognised by their form and mostly have a checksum; last,
 * values that lost their key or their leaf. A record that was copied already
 * is not replaced.
 */
#include "lmdb/repair/salvage.h"

#include "lmdb/repair/record_kind.h"

#include "lmdb/dead/dead_letters.h"
#include "lmdb/env/open.h"
#include "lmdb/queue/policy.h"
#include "lmdb/queue/state.h"
#include "lmdb/queue/unit.h"
#include "lmdb/record/names.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMMIT_BYTES ((uint64_t)8 << 20)

enum { NEXT_QUEUE, NEXT_DLQ, NEXT_BLOB };

/* In this order; the other databases are made anew. */
static const enum db copied[] = {
    DB_QUEUES, DB_DLQS, DB_REPLAYS, DB_REMAINING,    DB_SEGMENTS,
    DB_CLAIMS, DB_KEYS, DB_HISTORY, DB_DEAD_LETTERS, DB_BLOBS,
};
#define COPIED (sizeof copied / sizeof *copied)

void salvage_say(salvage *s, const char *fmt, ...) {
  char text[512];
  va_list args;
  va_start(args, fmt);
  vsnprintf(text, sizeof text, fmt, args);
  va_end(args);
  if (s->each && !s->rc) s->rc = s->each(s->arg, text);
}

bool salvage_commit(salvage *s) {
  if (!s->t) return false;
  int rc = unit_commit(s->t);
  s->t = NULL;
  s->pending = 0;
  if (!rc && !s->rc) rc = unit_begin(s->to, true, &s->t);
  if (rc) s->rc = rc;
  return !s->rc;
}

void salvage_each(salvage *s, int which,
                  void (*each)(salvage *s, const char *name)) {
  char name[RESPOOL_NAME_MAX + 1];
  packer p;
  unpacker u;
  packer_init(&p);
  if (lmdb_names(s->t, which, &p)) s->rc = s->t->rc;
  unpacker_init(&u, p.data, p.len);
  for (size_t n = unpack_array(&u); n > 0 && !s->rc; n--) {
    respool_bytes b = unpack_phrase(&u);
    memcpy(name, b.data, b.size);
    name[b.size] = '\0';
    each(s, name);
    salvage_commit(s);
  }
  packer_free(&p);
}

/* ---- records that belong to a queue or a DLQ ---------------------------- */

bool salvage_has_owner(salvage *s, int kind, uint32_t number) {
  return id_set_has(&s->owners[kind], number);
}

static void add_owner(salvage *s, int kind, uint32_t number) {
  if (!salvage_has_owner(s, kind, number) &&
      !id_set_add(&s->owners[kind], number))
    txn_fail(s->t, RESPOOL_NOMEM);
}

/* Keys of these databases begin with the number of a queue or DLQ. If all
   queues or DLQs are known and none has that number, the key is damaged. */
static bool has_owner(salvage *s, enum db db, const node *n) {
  static const bool owned[DB_COUNT] = {
    [DB_SEGMENTS] = true, [DB_REMAINING] = true, [DB_CLAIMS] = true,
    [DB_KEYS] = true, [DB_HISTORY] = true, [DB_DEAD_LETTERS] = true,
  };
  int kind = db == DB_DEAD_LETTERS ? DLQS : QUEUES;
  const uint8_t *b = n->key.data;
  if (!owned[db] || s->hole[kind == DLQS ? DB_DLQS : DB_QUEUES]) return true;
  return salvage_has_owner(s, kind, (uint32_t)b[0] << 24 |
                                        (uint32_t)b[1] << 16 |
                                        (uint32_t)b[2] << 8 | b[3]);
}

/* ---- putting ------------------------------------------------------------ */

static void see_number(salvage *s, int which, uint64_t number) {
  if (number >= s->next[which]) s->next[which] = number + 1;
}

/* New numbers will be above all that are in use. */
static void see_numbers(salvage *s, enum db db, const node *n) {
  queue q;
  dlq x = {.count = 0};
  place p;
  uint64_t number;
  uint32_t id;
  if (db == DB_QUEUES && record_queue(n, &q)) {
    see_number(s, NEXT_QUEUE, q.id);
    add_owner(s, QUEUES, q.id);
  }
  if ((db == DB_SEGMENTS && record_place(n, &p)) ||
      (db == DB_CLAIMS && claim_key_read(n->key, &p)))
    see_number(s, NEXT_QUEUE, p.line.queue);
  if (db == DB_DLQS && record_dlq(n, &x)) {
    see_number(s, NEXT_DLQ, x.id);
    add_owner(s, DLQS, x.id);
  }
  if (db == DB_DEAD_LETTERS && dead_key_read(n->key, &id, &number))
    see_number(s, NEXT_DLQ, id);
  if (db == DB_BLOBS && blob_key_read(n->key, &number, &id))
    see_number(s, NEXT_BLOB, number);
}

bool salvage_equal(respool_bytes a, respool_bytes b) {
  return a.size == b.size && !memcmp(a.data, b.data, a.size);
}

/* Copies a record; true when the new store has it now. */
static bool put(salvage *s, enum db db, const node *n, bool scanned) {
  respool_bytes old;
  if (s->rc || !s->t) return true;
  if (!has_owner(s, db, n)) return false;
  if (txn_get(s->t, db, n->key, &old) &&
      !(scanned && record_is_later(db, n->value, old)))
    return salvage_equal(n->value, old);
  txn_put(s->t, db, n->key, n->value);
  see_numbers(s, db, n);
  s->pending += n->value.size + n->key.size;
  if (s->t->rc) s->rc = s->t->rc;
  if (s->pending > COMMIT_BYTES) salvage_commit(s);
  return true;
}

/* ---- trees -------------------------------------------------------------- */

const char *salvage_queue_name(salvage *s, uint32_t id, char *name) {
  cur c;
  snprintf(name, RESPOOL_NAME_MAX + 1, "number %u", id);
  cur_open(&c, s->t, DB_QUEUES);
  for (bool more = cur_first(&c); more; more = cur_next(&c)) {
    node n = {.key = c.key, .value = c.value};
    queue q;
    if (!record_queue(&n, &q) || q.id != id) continue;
    memcpy(name, c.key.data, c.key.size);
    name[c.key.size] = '\0';
    break;
  }
  cur_close(&c);
  return name;
}

/* Counts and reports the unsettled items of a segment without its bytes. */
static void miss_segment(salvage *s, const node *n, const place *p) {
  char name[RESPOOL_NAME_MAX + 1];
  respool_bytes v;
  bits unsettled;
  if (!txn_get(s->t, DB_REMAINING, n->key, &v) ||
      !bits_unpack(v, p->count, &unsettled))
    bits_fill(&unsettled, p->count);
  s->missing_items += unsettled.set;
  salvage_say(s,
              "missing: %u item%s of queue '%.200s' from id %llu to %llu, "
              "whose segment cannot be read",
              unsettled.set, unsettled.set == 1 ? "" : "s",
              salvage_queue_name(s, p->line.queue, name), ULL(p->first),
              ULL(place_last(p)));
}

static void miss_dead(salvage *s, uint32_t of, uint64_t number) {
  s->missing_dead++;
  salvage_say(s, "missing: dead letter %llu of DLQ number %u, which is damaged",
              ULL(number), of);
}

/* These databases say which items are settled. */
static const char *settled_hint(enum db db) {
  bool says = db == DB_REMAINING || db == DB_CLAIMS;
  return says ? "; settled items may be back" : "";
}

static void lose(salvage *s, enum db db, const node *n) {
  place p;
  uint32_t of;
  uint64_t number;
  if (db == DB_SEGMENTS && record_place(n, &p))
    miss_segment(s, n, &p);
  else if (db == DB_DEAD_LETTERS && dead_key_read(n->key, &of, &number))
    miss_dead(s, of, number);
  else {
    s->out->lost_records++;
    salvage_say(s, "lost: a record of '%s', which is damaged%s", db_name(db),
                settled_hint(db));
  }
}

typedef struct errand {
  salvage *s;
  enum db db;
  bool wrong; /* some records were damaged, and reported */
} errand;

/* A damaged segment that still has bytes is copied, to be set aside. */
static bool copy_record(void *arg, const node *n) {
  errand *e = arg;
  place p;
  node r;
  if (e->s->rc) return true;
  if (record_read(e->db, n, &r)) return put(e->s, e->db, &r, false);
  if (e->db == DB_SEGMENTS && record_place(n, &p) && n->value.size > 0)
    put(e->s, e->db, n, false);
  else if (!record_is_astray(e->db, n))
    lose(e->s, e->db, n);
  e->s->hole[e->db] = e->wrong = true;
  return false;
}

static bool note_tree(void *arg, const node *n) {
  salvage *s = arg;
  for (int i = 0; i < DB_COUNT; i++)
    if (phrase_is(n->key, db_name((enum db)i))) {
      if (!s->trees[i].known) s->trees[i] = pages_tree(n);
      return s->trees[i].known;
    }
  return false;
}

static bool all_known(const salvage *s) {
  for (int i = 0; i < DB_COUNT; i++)
    if (!s->trees[i].known) return false;
  return true;
}

/* Finds the trees, if need be those of the commit before the last. Every store
   has all of them. */
static void find_trees(salvage *s) {
  pages *p = &s->pages;
  bool whole = pages_walk(p, p->main, note_tree, s) && all_known(s);
  s->idle_known = pages_read_free(p, p->free);
  if (p->unsure)
    salvage_say(s, "a record of the last two commits is damaged: the "
                "last changes may be missing, settled items may be back");
  if (whole) return;
  for (int i = 0; i < DB_COUNT; i++) s->hole[i] = true;
  salvage_say(s, "the list of databases is damaged: searching the whole file");
  if (all_known(s)) return;
  s->idle_known = false;
  pages_walk(p, p->main_before, note_tree, s);
}

static void lose_page(salvage *s, enum db db) {
  salvage_say(s, "a page of '%s' is damaged: searching the whole file%s",
              db_name(db), settled_hint(db));
}

static void copy_trees(salvage *s) {
  for (size_t i = 0; i < COPIED && !s->rc; i++) {
    errand e = {s, copied[i], false};
    if (pages_walk(&s->pages, s->trees[e.db], copy_record, &e)) continue;
    s->hole[e.db] = true;
    if (s->trees[e.db].known && !e.wrong) lose_page(s, e.db);
  }
}

/* ---- leaves that no tree leads to --------------------------------------- */

static bool copy_found(void *arg, const node *n) {
  salvage *s = arg;
  node r;
  for (size_t i = 0; i < COPIED && !s->rc; i++)
    if (s->hole[copied[i]] && record_read(copied[i], n, &r))
      return put(s, copied[i], &r, true);
  return false;
}

/* An older version of a queue or DLQ is better than none. */
static bool copy_older(void *arg, const node *n) {
  salvage *s = arg;
  if (s->hole[DB_QUEUES] && record_is(DB_QUEUES, n))
    put(s, DB_QUEUES, n, true);
  else if (s->hole[DB_DLQS] && record_is(DB_DLQS, n))
    put(s, DB_DLQS, n, true);
  return true;
}

static void store_number(salvage *s, const char *name, int which) {
  packer p;
  if (s->rc || !s->t) return;
  packer_init(&p);
  pack_uint(&p, s->next[which]);
  txn_put_packed(s->t, DB_META, phrase_of(name), &p);
  packer_free(&p);
}

/* ---- values that lost their key or leaf --------------------------------- */

static uint64_t last_id(salvage *s, uint32_t of) {
  uint64_t last = 0;
  for (int i = 0; i < SPACE_COUNT * RESPOOL_PRIORITIES; i++) {
    place p =
        {{of, i / RESPOOL_PRIORITIES, i % RESPOOL_PRIORITIES}, NUMBER_END, 0};
    line l = p.line;
    key k = segment_key(&p);
    respool_bytes found, v;
    if (txn_floor(s->t, DB_SEGMENTS, key_bytes(&k), &found, &v) &&
        segment_key_read(found, &p) && same_line(&p.line, &l) &&
        place_last(&p) > last)
      last = place_last(&p);
  }
  return last;
}

queue *salvage_queue(salvage *s) {
  static const respool_queue_options none = RESPOOL_QUEUE_OPTIONS_INIT;
  int rc = lmdb_queue_open(s->t, SALVAGE_QUEUE, &none);
  queue *q = rc ? NULL : queue_find(s->t, SALVAGE_QUEUE, &rc);
  if (!q) {
    s->rc = rc ? rc : s->t->rc;
    return NULL;
  }
  if (!s->numbered) { /* it may have been somebody's own */
    uint64_t last = last_id(s, q->id);
    if (last >= q->next_id) q->next_id = last + 1;
    s->numbered = true;
    add_owner(s, QUEUES, q->id);
  }
  return q;
}

static void adopt_segment(salvage *s, respool_bytes v, const segment *g) {
  queue *q = salvage_queue(s);
  if (!q) return;
  place p = {{q->id, SPACE_READY, 0}, q->next_id, (uint32_t)g->count};
  key k = segment_key(&p);
  node n = {.key = key_bytes(&k), .value = v};
  q->next_id += g->count;
  queue_changed(s->t, q);
  s->out->nameless += g->count;
  s->missing_items -= g->count < s->missing_items ? g->count : s->missing_items;
  put(s, DB_SEGMENTS, &n, false);
}

static uint64_t last_dead(salvage *s, uint32_t of) {
  key end = dead_key(of, UINT64_MAX);
  uint32_t x;
  uint64_t number;
  respool_bytes found, v;
  return txn_floor(s->t, DB_DEAD_LETTERS, key_bytes(&end), &found, &v) &&
                 dead_key_read(found, &x, &number) && x == of
             ? number : 0;
}

/* A dead letter names its queue; it goes to the DLQ of that name. */
static void adopt_dead(salvage *s, respool_bytes v, const dead *l) {
  char name[RESPOOL_NAME_MAX + 1];
  if (!is_name(l->r.queue)) return;
  memcpy(name, l->r.queue.data, l->r.queue.size);
  name[l->r.queue.size] = '\0';
  dlq *x = dlq_make(s->t, name);
  if (!x) return;
  add_owner(s, DLQS, x->id);
  uint64_t number = last_dead(s, x->id);
  if (number >= x->next_number) x->next_number = number + 1;
  key k = dead_key(x->id, x->next_number++);
  node n = {.key = key_bytes(&k), .value = v};
  x->dirty = true;
  if (s->missing_dead) s->missing_dead--;
  put(s, DB_DEAD_LETTERS, &n, false);
}

static bool adopt(void *arg, const node *n) {
  salvage *s = arg;
  respool_bytes v;
  segment g;
  dead l;
  if (s->rc || !s->t) return true;
  if (s->hole[DB_SEGMENTS] && record_segment(n, &v, &g))
    adopt_segment(s, v, &g);
  else if (s->hole[DB_DEAD_LETTERS] && record_dead(n, &v, &l))
    adopt_dead(s, v, &l);
  return true;
}

/* Was it copied under its key? */
static bool is_stored(const salvage *s, const node *n) {
  node r;
  respool_bytes v;
  for (size_t i = 0; i < COPIED; i++)
    if (s->hole[copied[i]] && record_read(copied[i], n, &r) &&
        txn_get(s->t, copied[i], r.key, &v))
      return salvage_equal(v, r.value);
  return false;
}

static bool adopt_missing(void *arg, const node *n) {
  const salvage *s = arg;
  return s->rc || !s->t || is_stored(s, n) || adopt(arg, n);
}

/* ---- all ---------------------------------------------------------------- */

static bool any_hole(const salvage *s) {
  for (size_t i = 0; i < COPIED; i++)
    if (s->hole[copied[i]]) return true;
  return false;
}

static void store_numbers(salvage *s) {
  store_number(s, "next queue", NEXT_QUEUE);
  store_number(s, "next DLQ", NEXT_DLQ);
  store_number(s, "next blob", NEXT_BLOB);
}

void salvage_copy(salvage *s) {
  for (int i = 0; i < 3; i++) s->next[i] = 1;
  find_trees(s);
  copy_trees(s);
  if (any_hole(s) && !s->idle_known)
    salvage_say(s, "the free list is damaged: settled items may be back");
  if (any_hole(s)) pages_scan(&s->pages, SCAN_LOST, copy_found, s);
  if (s->hole[DB_QUEUES] || s->hole[DB_DLQS])
    pages_scan(&s->pages, SCAN_IDLE, copy_older, s);
  store_numbers(s);
  if (any_hole(s)) pages_scan(&s->pages, SCAN_AGAIN, adopt_missing, s);
  if (any_hole(s)) pages_scan_values(&s->pages, adopt, s);
  if (s->out->nameless)
    salvage_say(s, "found: %llu items whose queue is not known, now in '"
                SALVAGE_QUEUE "'", ULL(s->out->nameless));
  if (!s->rc) s->rc = s->pages.rc;
  s->out->lost_items = s->missing_items;
  s->out->lost_dead_letters = s->missing_dead;
  s->out->damaged_pages = s->pages.damaged;
}

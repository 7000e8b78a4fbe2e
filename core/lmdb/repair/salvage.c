/* SPDX-License-Identifier: MIT */
/*
 * Copying the records of a damaged store; see salvage.h. The trees come first:
 * they hold the last commit. Where a tree could not be read completely, leaves
 * that no tree leads to, or that are damaged, are searched for its records,
 * which are recognised by their checksums; last, segments and dead letters that
 * lost their key or their leaf, which say themselves where they belong. A
 * record that was copied already is not replaced, but by a later version.
 */
#include "lmdb/repair/salvage.h"

#include "lmdb/env/txn/cur.h"
#include "lmdb/env/txn/recent.h"
#include "lmdb/repair/record_kind.h"

#include "lmdb/dead/dead_letters.h"
#include "lmdb/env/open.h"
#include "lmdb/queue/state.h"
#include "lmdb/record/names.h"
#include "lmdb/unit/policy.h"
#include "lmdb/unit/unit.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMMIT_BYTES ((uint64_t)8 << 20)

enum { NEXT_QUEUE, NEXT_DLQ, NEXT_BLOB };

/* After the state, which says whose the other records are. */
static const int other_trees[] = {DB_SEGMENTS, DB_HISTORY, DB_DEAD_LETTERS,
                                  DB_BLOBS};
#define OTHER_TREES (sizeof other_trees / sizeof *other_trees)

/* The other tables are made anew. */
static bool is_copied(enum db db) {
  return db != DB_META && db != DB_DUE && db != DB_EXPIRIES &&
         db != DB_WINDOWS && db < DB_PARTITIONS;
}

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
  dlq x;
  place p;
  uint64_t number, count;
  uint32_t id;
  if (db == DB_QUEUES && record_queue(n, &q)) {
    see_number(s, NEXT_QUEUE, q.id);
    add_owner(s, QUEUES, q.id);
  }
  if ((db == DB_SEGMENTS && record_place(n, &p)) ||
      (db == DB_CLAIMS && claim_key_read(n->key, &p)))
    see_number(s, NEXT_QUEUE, p.line.queue);
  if (db == DB_DLQS && dlq_unpack(n->key, n->value, &x)) {
    see_number(s, NEXT_DLQ, x.id);
    add_owner(s, DLQS, x.id);
  }
  if (db == DB_DEAD_LETTERS && dead_key_read(n->key, &id, &number, &count))
    see_number(s, NEXT_DLQ, id);
  if (db == DB_BLOBS && blob_key_read(n->key, &number, &id))
    see_number(s, NEXT_BLOB, number);
}

static bool same_bytes(respool_bytes a, respool_bytes b) {
  return a.size == b.size && !memcmp(a.data, b.data, a.size);
}

/* Is what the new store has under a key no sound record? A damaged segment was
   copied, to be set aside. */
static bool is_damaged(enum db db, respool_bytes k, respool_bytes v) {
  node there = {.key = k, .value = v}, any;
  return !record_read(db, &there, &any);
}

static bool replaces(enum db db, const node *n, respool_bytes old,
                     bool scanned) {
  if (scanned && record_is_later(db, n->key, n->value, old)) return true;
  return is_damaged(db, n->key, old) && !is_damaged(db, n->key, n->value);
}

/* Copies a record; true when the new store has it now. */
static bool put(salvage *s, enum db db, const node *n, bool scanned) {
  respool_bytes old;
  if (s->rc || !s->t) return true;
  if (!has_owner(s, db, n)) return false;
  if (txn_get(s->t, db, n->key, &old) && !replaces(db, n, old, scanned))
    return same_bytes(n->value, old);
  txn_put(s->t, db, n->key, n->value);
  see_numbers(s, db, n);
  s->pending += n->value.size + n->key.size;
  if (s->t->rc) s->rc = s->t->rc;
  if (s->pending > COMMIT_BYTES) salvage_commit(s);
  return true;
}

/* ---- trees -------------------------------------------------------------- */

/* The name of a queue by its number, as far as that is known. */
static const char *queue_name(salvage *s, uint32_t id, char *name) {
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

/* The unsettled items of a segment, as far as that is known. */
static uint32_t unsettled_in(salvage *s, const node *n, const place *p) {
  respool_bytes v;
  bits unsettled;
  return txn_get(s->t, DB_REMAINING, n->key, &v) &&
                 bits_unpack(n->key, v, p->count, &unsettled)
             ? unsettled.set : p->count;
}

/* Counts and reports the unsettled items of a segment without its bytes. */
static void miss_segment(salvage *s, const node *n, const place *p) {
  char name[RESPOOL_NAME_MAX + 1];
  uint32_t count = unsettled_in(s, n, p);
  s->missing_items += count;
  salvage_say(s,
              "missing: %u item%s of queue '%.200s' from id %llu to %llu, "
              "whose segment cannot be read",
              count, count == 1 ? "" : "s",
              queue_name(s, p->line.queue, name), ULL(p->first),
              ULL(place_last(p)));
}

static void miss_dead(salvage *s, uint32_t of, uint64_t last, uint64_t count) {
  s->missing_dead += count;
  if (count == 1)
    salvage_say(s, "missing: dead letter %llu of DLQ number %u, which is "
                "damaged", ULL(last), of);
  else
    salvage_say(s, "missing: %llu dead letters of DLQ number %u, the last of "
                "number %llu, which are damaged", ULL(count), of, ULL(last));
}

/* These databases say which items are settled. */
static const char *settled_hint(enum db db) {
  bool says = db == DB_REMAINING || db == DB_CLAIMS;
  return says ? "; settled items may be back" : "";
}

static void lose(salvage *s, enum db db, const node *n) {
  place p;
  uint32_t of;
  uint64_t last, count;
  if (db == DB_SEGMENTS && record_place(n, &p))
    miss_segment(s, n, &p);
  else if (db == DB_DEAD_LETTERS && dead_key_read(n->key, &of, &last, &count))
    miss_dead(s, of, last, count);
  else {
    s->out->lost_records++;
    if (*settled_hint(db)) s->settled_said = true;
    salvage_say(s, "lost: a record of '%s', which is damaged%s",
                db < DB_COUNT ? db_name(db) : tree_name(TREE_STATE),
                settled_hint(db));
  }
}

typedef struct errand {
  salvage *s;
  int tree;
  enum db last; /* the table of the last record */
  bool gap;     /* records may be missing behind it */
  bool wrong;   /* some records were damaged, and reported */
} errand;

/* Records may be missing of the tables from the last one's to this. The nodes
   of a damaged page come in no order: a gap in a tree of several tables lasts
   until a later table is reached. */
static void close_gap(errand *e, enum db next) {
  if (tree_shared(e->tree) && next == e->last) return;
  for (int i = (int)e->last; e->gap && i <= (int)next; i++)
    e->s->hole[i] = true;
  e->gap = false;
  e->last = next;
}

/* The table that a record lies in; DB_COUNT: its key is damaged. */
static enum db table_of(const errand *e, node *n) {
  return tree_shared(e->tree) ? record_table(n) : (enum db)e->tree;
}

/* A sound value under a damaged key goes where it belongs. A damaged segment
   that still has bytes is copied, to be set aside. */
static void copy_damaged(errand *e, enum db db, const node *n) {
  place p;
  enum db home;
  node r;
  if (!tree_shared(e->tree) && record_home(n, &home, &r))
    put(e->s, home, &r, false);
  else if (db == DB_SEGMENTS && record_place(n, &p) && n->value.size > 0)
    put(e->s, db, n, false);
  else
    lose(e->s, db, n);
}

/* Recent records are put later: until then it is not known whose they are. */
static bool put_or_keep(errand *e, enum db db, const node *in_tree,
                        const node *r) {
  if (e->tree != TREE_RECENT) return put(e->s, db, r, false);
  if (!overlay_add(&e->s->recent, in_tree->key, r->value))
    e->s->rc = RESPOOL_NOMEM;
  return true;
}

static bool is_gone(const errand *e, const node *n) {
  return e->tree == TREE_RECENT && n->value.data && recent_is_gone(n->value);
}

static bool copy_record(void *arg, const node *n) {
  errand *e = arg;
  node own, r;
  if (e->s->rc) return true;
  if (!n) {
    e->gap = true;
    return false;
  }
  if (e->tree == TREE_STATE && overlay_has(&e->s->recent, n->key)) return true;
  own = r = *n;
  enum db db = table_of(e, &own);
  bool known = db < DB_COUNT;
  bool sound = known && (is_gone(e, n) || record_read(db, &own, &r));
  if (sound || (known && !is_copied(db))) close_gap(e, db);
  if (sound) return put_or_keep(e, db, n, &r);
  if (known && !is_copied(db)) return true;
  copy_damaged(e, db, &own);
  if (known) e->s->hole[db] = true;
  e->gap = e->wrong = true; /* its key may be that of another table */
  return false;
}

/* A database of format 1, and of no other. */
#define OLD_TREE "letters"

static bool note_tree(void *arg, const node *n) {
  salvage *s = arg;
  if (n && phrase_is(n->key, OLD_TREE)) s->old = true;
  for (int i = 0; n && i < TREE_COUNT; i++)
    if (phrase_is(n->key, tree_name(i))) {
      if (!s->trees[i].known) s->trees[i] = pages_tree(n);
      return s->trees[i].known;
    }
  return false;
}

static bool all_known(const salvage *s) {
  for (int i = 0; i <= TREE_STATE; i++)
    if (!s->trees[i].known) return false;
  return true;
}

/* Finds the trees, if need be those of the commit before the last. Every store
   has all of them, but for TREE_RECENT in those of older builds. */
static void find_trees(salvage *s) {
  pages *p = &s->pages;
  bool whole = pages_walk(p, p->main, note_tree, s) && all_known(s);
  s->idle_known = pages_read_free(p, p->free);
  if (p->unsure)
    salvage_say(s, "a record of the last two commits is damaged: the "
                "last changes may be missing, settled items may be back");
  if (whole && !s->trees[TREE_RECENT].known)
    s->trees[TREE_RECENT] = (tree){TREE_EMPTY, 0, true};
  if (whole) return;
  for (int i = 0; i < DB_COUNT; i++) s->hole[i] = true;
  salvage_say(s, "the list of databases is damaged: searching the whole file");
  if (all_known(s)) return;
  s->idle_known = false;
  pages_walk(p, p->main_before, note_tree, s);
}

static bool says_settled(const salvage *s, int which) {
  return tree_shared(which) && (s->hole[DB_REMAINING] || s->hole[DB_CLAIMS]);
}

static void copy_tree(salvage *s, int which) {
  bool shared = tree_shared(which);
  enum db first = shared ? DB_QUEUES : (enum db)which;
  enum db last = shared ? DB_COUNT - 1 : first;
  errand e = {s, which, first, false, false};
  if (pages_walk(&s->pages, s->trees[which], copy_record, &e)) return;
  /* Some were not found, or what lies under recent ones is older. */
  bool anywhere = which == TREE_RECENT || !(e.gap || e.wrong);
  if (anywhere) e.last = first;
  e.gap = e.gap || anywhere;
  close_gap(&e, last);
  if (s->trees[which].known && !e.wrong)
    salvage_say(s, "a page of '%s' is damaged: searching the whole file%s",
                tree_name(which),
                says_settled(s, which) ? "; settled items may be back" : "");
  else if (says_settled(s, which) && !s->settled_said)
    salvage_say(s, "records beside damaged ones may be missing: "
                "settled items may be back");
}

/* Puts recent records, either of queues and DLQs or the others. */
static void put_recent(salvage *s, bool owners) {
  for (size_t i = 0; i < s->recent.n && !s->rc; i++) {
    overlay_record *r = &s->recent.of[i];
    node n = {.key = r->key, .value = r->value, .room = r->value};
    enum db db = record_table(&n);
    bool is_owner = db == DB_QUEUES || db == DB_DLQS;
    if (is_owner == owners && !recent_is_gone(n.value) &&
        !put(s, db, &n, false)) {
      lose(s, db, &n);
      s->hole[db] = true;
    }
  }
}

static void copy_trees(salvage *s) {
  copy_tree(s, TREE_RECENT);
  put_recent(s, true);
  copy_tree(s, TREE_STATE);
  put_recent(s, false);
  for (size_t i = 0; i < OTHER_TREES && !s->rc; i++)
    copy_tree(s, other_trees[i]);
}

/* ---- leaves that no tree leads to --------------------------------------- */

/* Is it a sound record of a table that has a hole? */
static bool find_record(const salvage *s, const node *n, enum db *db,
                        node *out) {
  node own = *n;
  *db = record_table(&own);
  if (*db < DB_COUNT && s->hole[*db] && record_read(*db, &own, out))
    return true;
  for (size_t i = 0; i < OTHER_TREES; i++) {
    *db = (enum db)other_trees[i];
    if (s->hole[*db] && record_read(*db, n, out)) return true;
  }
  return false;
}

static bool copy_found(void *arg, const node *n) {
  salvage *s = arg;
  enum db db;
  node r;
  return !s->rc && find_record(s, n, &db, &r) && put(s, db, &r, true);
}

/* An older version of a queue or DLQ is better than none. */
static bool copy_older(void *arg, const node *n) {
  salvage *s = arg;
  enum db db;
  node r;
  if (find_record(s, n, &db, &r) && (db == DB_QUEUES || db == DB_DLQS))
    put(s, db, &r, true);
  return true;
}

static void store_number(salvage *s, const char *name, int which) {
  packer p;
  if (s->rc || !s->t) return;
  packer_init(&p);
  uint64_t last = s->next[which] - 1;
  row_pack(&p, &last, 1);
  record_put(s->t, DB_META, phrase_of(name), &p);
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
  int rc = lmdb_queue_open(s->t, SALVAGE_QUEUE, 0, &none);
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

/* Puts back a segment or dead letter that lost its key or its leaf. */
static bool adopt(void *arg, const node *n) {
  salvage *s = arg;
  enum db db;
  node r;
  place p;
  respool_bytes old = {NULL, 0};
  if (s->rc || !s->t || !record_home(n, &db, &r) || !s->hole[db]) return true;
  bool damaged = txn_get(s->t, db, r.key, &old);
  if ((damaged && !is_damaged(db, r.key, old)) || !put(s, db, &r, false) ||
      damaged)
    return true;
  uint64_t *missing = &s->missing_dead, count = 1, last;
  uint32_t of;
  if (db == DB_DEAD_LETTERS) dead_key_read(r.key, &of, &last, &count);
  if (db == DB_SEGMENTS && record_place(&r, &p)) {
    missing = &s->missing_items;
    count = unsettled_in(s, &r, &p);
  }
  *missing -= count < *missing ? count : *missing;
  return true;
}

/* ---- all ---------------------------------------------------------------- */

static bool any_hole(const salvage *s) {
  for (int i = 0; i < DB_COUNT; i++)
    if (s->hole[i] && is_copied((enum db)i)) return true;
  return false;
}

static void store_numbers(salvage *s) {
  store_number(s, "last queue", NEXT_QUEUE);
  store_number(s, "last DLQ", NEXT_DLQ);
  store_number(s, "last blob", NEXT_BLOB);
}

void salvage_copy(salvage *s) {
  for (int i = 0; i < 3; i++) s->next[i] = 1;
  find_trees(s);
  if (s->old && !s->rc)
    s->rc = fail(RESPOOL_VERSION, "the store has format 1: opening it for "
                 "writing migrates it; what cannot be migrated only a program "
                 "of that format can repair");
  if (s->rc) return;
  copy_trees(s);
  if (any_hole(s) && !s->idle_known)
    salvage_say(s, "the free list is damaged: settled items may be back");
  if (any_hole(s)) pages_scan(&s->pages, SCAN_LOST, copy_found, s);
  if (s->hole[DB_QUEUES] || s->hole[DB_DLQS])
    pages_scan(&s->pages, SCAN_IDLE, copy_older, s);
  store_numbers(s);
  if (any_hole(s)) pages_scan(&s->pages, SCAN_AGAIN, adopt, s);
  if (any_hole(s)) pages_scan_values(&s->pages, adopt, s);
  if (!s->rc) s->rc = s->pages.rc;
  s->out->lost_items = s->missing_items;
  s->out->lost_dead_letters = s->missing_dead;
  s->out->damaged_pages = s->pages.damaged;
}

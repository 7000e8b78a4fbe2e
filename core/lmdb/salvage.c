/* SPDX-License-Identifier: MIT */
/*
 * Copying the records of a damaged store; see salvage.h. The trees come
 * first: what they hold is what was there at the last commit. Where a tree
 * could not be read as a whole, leaves that nothing reached are looked
 * through for records of its kind, which tell their kind by their form and
 * mostly bear a checksum; last, values that lost their leaf. A record that is
 * there already stays.
 */
#include "salvage.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMMIT_BYTES ((uint64_t)8 << 20)

enum { NEXT_QUEUE, NEXT_BOX, NEXT_BLOB };

static const char *const names[DB_COUNT] = {
  "meta", "queues", "segments", "remaining", "claims", "due", "expiries",
  "keys", "windows", "blobs", "history", "boxes", "letters", "jobs",
};

/* In this order; what is not in it is made anew. */
static const enum db copied[] = {
  DB_QUEUES, DB_BOXES, DB_JOBS, DB_REMAINING, DB_SEGMENTS, DB_CLAIMS,
  DB_KEYS, DB_HISTORY, DB_LETTERS, DB_BLOBS,
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
  int rc = env_commit(s->t);
  s->t = NULL;
  s->pending = 0;
  if (!rc && !s->rc) rc = env_begin(s->to, true, &s->t);
  if (rc) s->rc = rc;
  return !s->rc;
}

/* ---- what a record is --------------------------------------------------- */

static bool is_name(respool_bytes b) {
  return b.size > 0 && b.size <= RESPOOL_NAME_MAX && !memchr(b.data, 0, b.size);
}

static bool is_queue(const node *n, queue *q) {
  memset(q, 0, sizeof *q);
  int rc = is_name(n->key) ? queue_unpack(n->value, q) : RESPOOL_CORRUPT;
  free(q->lanes);
  q->lanes = NULL;
  return rc == 0 && q->id > 0;
}

static bool is_place(const node *n, place *p) {
  return segment_key_read(n->key, p) && p->line.space < SPACE_COUNT &&
         p->count > 0 && p->count <= SEGMENT_ITEMS && p->first > 0 &&
         p->first < (uint64_t)1 << 53;
}

static bool is_segment(const node *n) {
  place p;
  segment g;
  return is_place(n, &p) && segment_open(n->value, &g) && g.count == p.count;
}

static bool is_remaining(const node *n) {
  place p;
  bits b;
  return is_place(n, &p) && bits_unpack(n->value, p.count, &b);
}

static bool is_claim(const node *n) {
  place p;
  claim c;
  return claim_key_read(n->key, &p) && p.line.space < SPACE_COUNT &&
         claim_unpack(n->value, &c) && c.last >= p.first &&
         c.last < (uint64_t)1 << 53 &&
         (c.state == CLAIM_LEASED || c.state == CLAIM_WAITING);
}

static bool is_holder(const node *n) {
  unpacker u;
  if (n->key.size < 5 || n->key.size > RESPOOL_NAME_MAX + 4) return false;
  unpacker_init(&u, n->value.data, n->value.size);
  if (unpack_array(&u) != 2) return false;
  unpack_uint(&u);
  unpack_int(&u);
  return u.rc == 0 && u.at == u.end;
}

static bool is_past(const node *n) {
  uint32_t of;
  int64_t at;
  uint64_t id;
  respool_item i;
  unpacker u;
  return history_key_read(n->key, &of, &at, &id) &&
         past_unpack(n->value, &i, &u);
}

static bool is_letter(const node *n) {
  uint32_t of;
  uint64_t number;
  letter l;
  return letter_key_read(n->key, &of, &number) && number > 0 &&
         letter_unpack(n->value, &l);
}

static bool is_part(const node *n) {
  uint64_t number;
  uint32_t part;
  respool_bytes data;
  return blob_key_read(n->key, &number, &part) &&
         part_unpack(n->value, &data);
}

static bool is_of(enum db db, const node *n) {
  queue q;
  box x = {.count = 0};
  respool_job j;
  if (!n->value.data || n->tree) return false;
  switch (db) {
    case DB_QUEUES: return is_queue(n, &q);
    case DB_BOXES: return is_name(n->key) && box_unpack(n->value, &x) && x.id;
    case DB_JOBS: return is_name(n->key) && job_unpack(n->value, &j);
    case DB_SEGMENTS: return is_segment(n);
    case DB_REMAINING: return is_remaining(n);
    case DB_CLAIMS: return is_claim(n);
    case DB_KEYS: return is_holder(n);
    case DB_HISTORY: return is_past(n);
    case DB_LETTERS: return is_letter(n);
    case DB_BLOBS: return is_part(n);
    default: return false;
  }
}

/* ---- putting ------------------------------------------------------------ */

static void see_number(salvage *s, int which, uint64_t number) {
  if (number >= s->next[which]) s->next[which] = number + 1;
}

/* New numbers are above all that a record bears. */
static void see_numbers(salvage *s, enum db db, const node *n) {
  queue q;
  box x = {.count = 0};
  place p;
  uint64_t number;
  uint32_t id;
  if (db == DB_QUEUES && is_queue(n, &q)) see_number(s, NEXT_QUEUE, q.id);
  if ((db == DB_SEGMENTS && is_place(n, &p)) ||
      (db == DB_CLAIMS && claim_key_read(n->key, &p)))
    see_number(s, NEXT_QUEUE, p.line.queue);
  if (db == DB_BOXES && box_unpack(n->value, &x))
    see_number(s, NEXT_BOX, x.id);
  if (db == DB_LETTERS && letter_key_read(n->key, &id, &number))
    see_number(s, NEXT_BOX, id);
  if (db == DB_BLOBS && blob_key_read(n->key, &number, &id))
    see_number(s, NEXT_BLOB, number);
}

/* Of two versions of a record that bears no checksum and that nothing tells
   to be the valid one: is this the later? */
static bool is_later(enum db db, respool_bytes v, respool_bytes old) {
  claim a, b;
  box x = {.count = 0}, y = {.count = 0};
  queue q = {.id = 0}, r = {.id = 0};
  if (db == DB_CLAIMS && claim_unpack(v, &a) && claim_unpack(old, &b))
    return a.deliveries > b.deliveries;
  if (db == DB_BOXES && box_unpack(v, &x) && box_unpack(old, &y))
    return x.next_number > y.next_number;
  if (db != DB_QUEUES) return false;
  int rc = queue_unpack(v, &q), old_rc = queue_unpack(old, &r);
  free(q.lanes);
  free(r.lanes);
  return !rc && !old_rc && q.next_id + q.next_token > r.next_id + r.next_token;
}

static void put(salvage *s, enum db db, const node *n, bool scanned) {
  respool_bytes old;
  if (s->rc || !s->t) return;
  if (txn_get(s->t, db, n->key, &old) &&
      !(scanned && is_later(db, n->value, old)))
    return;
  txn_put(s->t, db, n->key, n->value);
  see_numbers(s, db, n);
  s->pending += n->value.size + n->key.size;
  if (s->t->rc) s->rc = s->t->rc;
  if (s->pending > COMMIT_BYTES) salvage_commit(s);
}

/* ---- trees -------------------------------------------------------------- */

const char *salvage_queue_name(salvage *s, uint32_t id, char *name) {
  cur c;
  snprintf(name, RESPOOL_NAME_MAX + 1, "number %u", id);
  cur_open(&c, s->t, DB_QUEUES);
  for (bool more = cur_first(&c); more; more = cur_next(&c)) {
    node n = {.key = c.key, .value = c.value};
    queue q;
    if (!is_queue(&n, &q) || q.id != id) continue;
    memcpy(name, c.key.data, c.key.size);
    name[c.key.size] = '\0';
    break;
  }
  cur_close(&c);
  return name;
}

/* A segment whose bytes are gone, and how many of its items were not
   settled. */
static void lose_segment(salvage *s, const node *n, const place *p) {
  char name[RESPOOL_NAME_MAX + 1];
  respool_bytes v;
  bits live;
  if (!txn_get(s->t, DB_REMAINING, n->key, &v) ||
      !bits_unpack(v, p->count, &live))
    bits_fill(&live, p->count);
  s->out->lost_items += live.set;
  salvage_say(s, "lost: %u item%s of queue \"%.200s\" from id %llu to %llu, "
              "whose segment cannot be read", live.set,
              live.set == 1 ? "" : "s",
              salvage_queue_name(s, p->line.queue, name),
              (unsigned long long)p->first,
              (unsigned long long)place_last(p));
}

static void lose_letter(salvage *s, uint32_t of, uint64_t number) {
  s->out->lost_letters++;
  salvage_say(s, "lost: letter %llu of box number %u, which is damaged",
              (unsigned long long)number, of);
}

static void lose(salvage *s, enum db db, const node *n) {
  place p;
  uint32_t of;
  uint64_t number;
  s->hole[db] = true;
  if (db == DB_SEGMENTS && is_place(n, &p))
    lose_segment(s, n, &p);
  else if (db == DB_LETTERS && letter_key_read(n->key, &of, &number))
    lose_letter(s, of, number);
  else {
    s->out->lost_records++;
    salvage_say(s, "lost: a record of \"%s\", which is damaged", names[db]);
  }
}

typedef struct errand {
  salvage *s;
  enum db db;
} errand;

/* A damaged segment that still has bytes is kept, to be set aside. */
static void copy_record(void *arg, const node *n) {
  errand *e = arg;
  place p;
  bool bytes = e->db == DB_SEGMENTS && is_place(n, &p) && n->value.size > 0;
  if (e->s->rc) return;
  if (bytes || is_of(e->db, n))
    put(e->s, e->db, n, false);
  else
    lose(e->s, e->db, n);
}

static void note_tree(void *arg, const node *n) {
  salvage *s = arg;
  for (int i = 0; i < DB_COUNT; i++)
    if (n->key.size == strlen(names[i]) &&
        !memcmp(n->key.data, names[i], n->key.size))
      s->trees[i] = pages_tree(n);
}

/* Finds the trees; of the commit before, if the last one's cannot be. */
static void find_trees(salvage *s) {
  pages *p = &s->pages;
  bool whole = pages_walk(p, p->main, note_tree, s);
  s->idle_known = pages_read_free(p, p->free);
  if (whole) { /* a database that is not there is empty */
    for (int i = 0; i < DB_COUNT; i++)
      if (!s->trees[i].known) s->trees[i] = (tree){TREE_EMPTY, true};
    return;
  }
  s->idle_known = false;
  for (int i = 0; i < DB_COUNT; i++) s->hole[i] = true;
  salvage_say(s, "the list of databases is damaged: looked for everywhere");
  pages_walk(p, p->main_before, note_tree, s);
}

/* Which items of a segment are settled is told elsewhere; where that is lost
   they all count as not settled. */
static void lose_page(salvage *s, enum db db) {
  bool settled = db == DB_REMAINING || db == DB_CLAIMS;
  s->hole[db] = true;
  salvage_say(s, "a page of \"%s\" is damaged: looked for everywhere%s",
              names[db], settled ? "; what was settled may be back" : "");
}

static void copy_trees(salvage *s) {
  for (size_t i = 0; i < COPIED && !s->rc; i++) {
    errand e = {s, copied[i]};
    bool known = s->trees[e.db].known;
    bool whole = pages_walk(&s->pages, s->trees[e.db], copy_record, &e);
    if (!whole && known)
      lose_page(s, e.db);
    else if (!whole)
      s->hole[e.db] = true;
  }
}

/* ---- leaves that nothing reached ---------------------------------------- */

static void copy_found(void *arg, const node *n) {
  salvage *s = arg;
  for (size_t i = 0; i < COPIED && !s->rc; i++)
    if (s->hole[copied[i]] && is_of(copied[i], n)) {
      put(s, copied[i], n, true);
      return;
    }
}

/* Of queues and boxes an older version is better than none. */
static void copy_older(void *arg, const node *n) {
  salvage *s = arg;
  if (s->hole[DB_QUEUES] && is_of(DB_QUEUES, n))
    put(s, DB_QUEUES, n, true);
  else if (s->hole[DB_BOXES] && is_of(DB_BOXES, n))
    put(s, DB_BOXES, n, true);
}

static void store_number(salvage *s, const char *name, int which) {
  packer p;
  if (s->rc || !s->t) return;
  packer_init(&p);
  pack_uint(&p, s->next[which]);
  txn_put_packed(s->t, DB_META, phrase_of(name), &p);
  packer_free(&p);
}

/* ---- values that lost their leaf ---------------------------------------- */

/* Items whose queue and ids nobody knows go to a queue of their own. */
static void adopt_segment(salvage *s, respool_bytes v, const segment *g) {
  static const respool_queue_options none = RESPOOL_QUEUE_OPTIONS_INIT;
  int rc = lmdb_queue_open(s->t, SALVAGE_QUEUE, &none);
  queue *q = rc ? NULL : queue_find(s->t, SALVAGE_QUEUE, &rc);
  if (!q) {
    s->rc = rc ? rc : s->t->rc;
    return;
  }
  place p = {{q->id, SPACE_READY, 0}, q->next_id, (uint32_t)g->count};
  key k = segment_key(&p);
  node n = {.key = key_bytes(&k), .value = v};
  q->next_id += g->count;
  queue_changed(s->t, q);
  s->out->nameless += g->count;
  put(s, DB_SEGMENTS, &n, false);
}

static uint64_t last_letter(salvage *s, uint32_t of) {
  key end = letter_key(of, UINT64_MAX);
  uint32_t found;
  uint64_t number;
  cur c;
  cur_open(&c, s->t, DB_LETTERS);
  bool any = cur_floor(&c, key_bytes(&end)) &&
             letter_key_read(c.key, &found, &number) && found == of;
  cur_close(&c);
  return any ? number : 0;
}

/* A letter knows its queue; its box is taken to bear that name. */
static void adopt_letter(salvage *s, respool_bytes v, const letter *l) {
  char name[RESPOOL_NAME_MAX + 1];
  if (!is_name(l->r.queue)) return;
  memcpy(name, l->r.queue.data, l->r.queue.size);
  name[l->r.queue.size] = '\0';
  box *x = box_make(s->t, name);
  if (!x) return;
  uint64_t number = last_letter(s, x->id);
  if (number >= x->next_number) x->next_number = number + 1;
  key k = letter_key(x->id, x->next_number++);
  node n = {.key = key_bytes(&k), .value = v};
  x->dirty = true;
  put(s, DB_LETTERS, &n, false);
}

static void adopt(void *arg, const node *n) {
  salvage *s = arg;
  segment g;
  letter l;
  unpacker u;
  unpacker_init(&u, n->value.data, n->value.size);
  respool_bytes v = unpack_skip(&u);
  if (s->rc || !s->t || u.rc) return;
  if (s->hole[DB_SEGMENTS] && segment_open(v, &g) && g.count &&
      g.count <= SEGMENT_ITEMS)
    adopt_segment(s, v, &g);
  else if (s->hole[DB_LETTERS] && letter_unpack(v, &l))
    adopt_letter(s, v, &l);
}

/* ---- all ---------------------------------------------------------------- */

static bool any_hole(const salvage *s) {
  for (size_t i = 0; i < COPIED; i++)
    if (s->hole[copied[i]]) return true;
  return false;
}

static void store_numbers(salvage *s) {
  store_number(s, "next queue", NEXT_QUEUE);
  store_number(s, "next box", NEXT_BOX);
  store_number(s, "next blob", NEXT_BLOB);
}

void salvage_copy(salvage *s) {
  for (int i = 0; i < 3; i++) s->next[i] = 1;
  find_trees(s);
  copy_trees(s);
  if (any_hole(s) && !s->idle_known)
    salvage_say(s, "the free list is damaged: what was settled may be back");
  if (any_hole(s)) pages_scan(&s->pages, false, copy_found, s);
  if (s->hole[DB_QUEUES] || s->hole[DB_BOXES])
    pages_scan(&s->pages, true, copy_older, s);
  store_numbers(s);
  if (any_hole(s)) pages_scan_values(&s->pages, adopt, s);
  if (!s->rc) s->rc = s->pages.rc;
  s->out->damaged_pages = s->pages.damaged;
}

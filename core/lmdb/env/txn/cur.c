/* SPDX-License-Identifier: MIT */
/*
 * Cursors; see cur.h.
 */
#include "lmdb/env/txn/cur.h"

#include "lmdb/env/txn/recent.h"

#include <string.h>

static void open_side(cur *c, cur_side *s, int which) {
  if (c->t->rc) return;
  txn_check(c->t, mdb_cursor_open(c->t->mdb, c->t->env->trees[which], &s->mdb));
}

void cur_open_tree(cur *c, txn *t, int which) {
  c->t = t;
  c->table = -1;
  c->over.mdb = c->under.mdb = NULL;
  c->key = c->value = (respool_bytes){NULL, 0};
  open_side(c, &c->under, which);
}

void cur_open(cur *c, txn *t, enum db db) {
  cur_open_tree(c, t, db_tree(db));
  if (db_shared(db)) c->table = (int)db;
  c->over.place = c->under.place = CUR_LOST;
  c->changes = t->changes;
  c->last = (MDB_val){0, c->room.b};
}

void cur_close(cur *c) {
  if (c->over.mdb) mdb_cursor_close(c->over.mdb);
  if (c->under.mdb) mdb_cursor_close(c->under.mdb);
  c->over.mdb = c->under.mdb = NULL;
}

/* ---- one tree ----------------------------------------------------------- */

static bool give(cur *c, MDB_val k, MDB_val v) {
  c->key = to_bytes(k);
  c->value = to_bytes(v);
  return true;
}

/* Moves the cursor of a tree; false when there is no record there. */
static bool go(cur *c, cur_side *s, MDB_cursor_op how) {
  if (c->t->rc) return false;
  int rc = mdb_cursor_get(s->mdb, &s->k, &s->v, how);
  if (rc != MDB_NOTFOUND) txn_check(c->t, rc);
  return rc == 0;
}

static bool move(cur *c, MDB_cursor_op how) {
  return go(c, &c->under, how) && give(c, c->under.k, c->under.v);
}

static bool same(MDB_val a, MDB_val b) {
  return a.mv_size == b.mv_size && !memcmp(a.mv_data, b.mv_data, a.mv_size);
}

/* To the last record at or before a key, or before it alone: from the first at
   or behind it one back. */
static bool go_down(cur *c, cur_side *s, MDB_val key, bool at) {
  s->k = key;
  bool any = go(c, s, MDB_SET_RANGE);
  if (any && at && same(s->k, key)) return true;
  return go(c, s, any ? MDB_PREV : MDB_LAST);
}

/* ---- two trees, one over the other -------------------------------------- */

/* A change may have moved what the sides were at. */
static void look_anew(cur *c) {
  c->over.place = c->under.place = CUR_LOST;
  c->changes = c->t->changes;
}

/* Is there a cursor to move? There may be records in TREE_RECENT by now. */
static bool has_side(cur *c, cur_side *s) {
  if (s->mdb) return true;
  if (recent_any(c->t)) open_side(c, s, TREE_RECENT);
  return s->mdb != NULL;
}

static void seek(cur *c, cur_side *s) {
  s->k = c->last;
  if (!has_side(c, s) || !go(c, s, MDB_SET_RANGE))
    s->place = CUR_AT_END;
  else
    s->place = same(s->k, c->last) ? CUR_ON : CUR_BEHIND;
}

static void pass(cur *c, cur_side *s) {
  if (s->place == CUR_LOST) seek(c, s);
  if (s->place == CUR_ON)
    s->place = go(c, s, MDB_NEXT) ? CUR_BEHIND : CUR_AT_END;
}

/* Is the record of this table? Then it is the last one from now on. */
static bool stand(cur *c, const cur_side *s) {
  const uint8_t *b = s->k.mv_data;
  if (c->t->rc || b[0] != c->table) return false;
  c->last.mv_size = s->k.mv_size;
  memcpy(c->room.b, b, s->k.mv_size);
  return true;
}

static bool give_own(cur *c, const cur_side *s) {
  const uint8_t *b = s->k.mv_data;
  return give(c, (MDB_val){s->k.mv_size - 1, (void *)(uintptr_t)(b + 1)}, s->v);
}

/* Less than 0: the record over the other comes first, or is in its place. */
static int order(const cur *c) {
  const cur_side *o = &c->over, *u = &c->under;
  if (o->place == CUR_AT_END) return 1;
  if (u->place == CUR_AT_END) return -1;
  return same(o->k, u->k) ? 0 : key_rises(to_bytes(o->k), to_bytes(u->k)) ? -1
                                                                          : 1;
}

/* The first record that either side is at. */
static bool pick_first(cur *c) {
  for (;;) {
    cur_side *o = &c->over, *u = &c->under;
    int by = order(c);
    cur_side *s = by > 0 ? u : o;
    if (s->place == CUR_AT_END || !stand(c, s)) return false;
    if (by <= 0) o->place = CUR_ON;
    if (by >= 0) u->place = CUR_ON;
    if (s == u || !recent_is_gone(to_bytes(o->v))) return give_own(c, s);
    pass(c, o);
    pass(c, u);
  }
}

/* The last record at or before a key, or before it alone. */
static bool pick_last(cur *c, MDB_val key, bool at) {
  cur_side *o = &c->over, *u = &c->under;
  look_anew(c);
  for (;; at = false, key = c->last) {
    bool over = has_side(c, o) && go_down(c, o, key, at);
    bool under = go_down(c, u, key, at);
    if (!over && !under) return false;
    bool is_over = over && (!under || !key_rises(to_bytes(o->k),
                                                 to_bytes(u->k)));
    cur_side *s = is_over ? o : u;
    if (!stand(c, s)) return false;
    if (is_over && recent_is_gone(to_bytes(o->v))) continue;
    s->place = CUR_ON;
    return give_own(c, s);
  }
}

static MDB_val stand_at(cur *c, respool_bytes key) {
  key = tree_key_of((enum db)c->table, key, &c->room);
  c->last.mv_size = key.size;
  look_anew(c);
  return c->last;
}

/* ---- moves -------------------------------------------------------------- */

bool cur_first(cur *c) {
  return c->table < 0 ? move(c, MDB_FIRST)
                      : cur_seek(c, (respool_bytes){"", 0});
}

bool cur_seek(cur *c, respool_bytes key) {
  if (c->table < 0) {
    c->under.k = to_val(key);
    return move(c, MDB_SET_RANGE);
  }
  stand_at(c, key);
  seek(c, &c->over);
  seek(c, &c->under);
  return pick_first(c);
}

bool cur_floor(cur *c, respool_bytes key) {
  if (c->table >= 0) return pick_last(c, stand_at(c, key), true);
  return go_down(c, &c->under, to_val(key), true) &&
         give(c, c->under.k, c->under.v);
}

bool cur_next(cur *c) {
  if (c->table < 0) return move(c, MDB_NEXT);
  if (c->changes != c->t->changes) look_anew(c);
  pass(c, &c->over);
  pass(c, &c->under);
  return pick_first(c);
}

bool cur_prev(cur *c) {
  return c->table < 0 ? move(c, MDB_PREV) : pick_last(c, c->last, false);
}

static bool look_up(txn *t, enum db db, respool_bytes from,
                    bool (*move_to)(cur *c, respool_bytes key),
                    respool_bytes *key, respool_bytes *value) {
  cur c;
  cur_open(&c, t, db);
  bool found = move_to(&c, from);
  cur_close(&c);
  if (!found) return false;
  *key = c.key;
  *value = c.value;
  return true;
}

bool txn_seek(txn *t, enum db db, respool_bytes from, respool_bytes *key,
              respool_bytes *value) {
  return look_up(t, db, from, cur_seek, key, value);
}

bool txn_floor(txn *t, enum db db, respool_bytes from, respool_bytes *key,
               respool_bytes *value) {
  return look_up(t, db, from, cur_floor, key, value);
}

void cur_del(cur *c) {
  if (c->table >= 0) recent_del(c->t, to_bytes(c->last));
  if (c->table >= 0 || c->t->rc) return;
  c->t->changes++;
  txn_check(c->t, mdb_cursor_del(c->under.mdb, 0));
}

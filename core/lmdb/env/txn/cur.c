/* SPDX-License-Identifier: MIT */
/*
 * Cursors; see cur.h.
 */
#include "lmdb/env/txn/cur.h"

#include <string.h>

void cur_open_tree(cur *c, txn *t, int which) {
  memset(c, 0, sizeof *c);
  c->t = t;
  c->table = -1;
  if (!t->rc)
    txn_check(t, mdb_cursor_open(t->mdb, t->env->trees[which], &c->mdb));
}

void cur_open(cur *c, txn *t, enum db db) {
  cur_open_tree(c, t, db_tree(db));
  if (db_shared(db)) c->table = (int)db;
}

void cur_close(cur *c) {
  if (c->mdb) mdb_cursor_close(c->mdb);
  c->mdb = NULL;
}

/* Is the record of this table? Then its key is that without the number. */
static bool is_own(const cur *c, MDB_val *k) {
  if (c->table < 0) return true;
  const uint8_t *b = k->mv_data;
  if (b[0] != c->table) return false;
  *k = (MDB_val){k->mv_size - 1, (void *)(uintptr_t)(b + 1)};
  return true;
}

static bool move(cur *c, MDB_val k, MDB_cursor_op how) {
  if (c->t->rc) return false;
  MDB_val v;
  int rc = mdb_cursor_get(c->mdb, &k, &v, how);
  if (rc != MDB_NOTFOUND) txn_check(c->t, rc);
  if (rc || !is_own(c, &k)) return false;
  c->key = to_bytes(k);
  c->value = to_bytes(v);
  return true;
}

static MDB_val cur_key(const cur *c, respool_bytes key, tree_key *room) {
  if (c->table >= 0) key = tree_key_of((enum db)c->table, key, room);
  return to_val(key);
}

bool cur_first(cur *c) {
  if (c->table >= 0) return cur_seek(c, (respool_bytes){"", 0});
  return move(c, (MDB_val){0, NULL}, MDB_FIRST);
}

bool cur_seek(cur *c, respool_bytes key) {
  tree_key room;
  return move(c, cur_key(c, key, &room), MDB_SET_RANGE);
}

/* From the first record at or behind the key, in whatever table, one back,
   unless it has that key. */
bool cur_floor(cur *c, respool_bytes key) {
  tree_key room;
  MDB_val wanted = cur_key(c, key, &room), k = wanted, v, none = {0, NULL};
  if (c->t->rc) return false;
  int rc = mdb_cursor_get(c->mdb, &k, &v, MDB_SET_RANGE);
  if (rc == MDB_NOTFOUND) return move(c, none, MDB_LAST);
  txn_check(c->t, rc);
  bool same = !rc && k.mv_size == wanted.mv_size &&
              !memcmp(k.mv_data, wanted.mv_data, k.mv_size);
  return move(c, none, same ? MDB_GET_CURRENT : MDB_PREV);
}

bool cur_next(cur *c) {
  return move(c, (MDB_val){0, NULL}, MDB_NEXT);
}

bool cur_prev(cur *c) {
  return move(c, (MDB_val){0, NULL}, MDB_PREV);
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
  if (c->t->rc) return;
  c->t->changes++;
  txn_check(c->t, mdb_cursor_del(c->mdb, 0));
}

/* SPDX-License-Identifier: MIT */
/* Records of tables; see table.h. */
#include "lmdb/env/txn/table.h"

#include "lmdb/env/txn/recent.h"

bool txn_get(txn *t, enum db db, respool_bytes key, respool_bytes *value) {
  tree_key room;
  if (!db_shared(db)) return txn_get_in(t, (int)db, key, value);
  key = tree_key_of(db, key, &room);
  if (recent_any(t) && txn_get_in(t, TREE_RECENT, key, value))
    return !recent_is_gone(*value);
  return txn_get_in(t, TREE_STATE, key, value);
}

static void put(txn *t, enum db db, respool_bytes key, MDB_val *v,
                unsigned how) {
  tree_key room;
  MDB_cursor *c;
  int which = (int)db;
  if (t->rc) return;
  key = tree_key_of(db, key, &room);
  MDB_val k = to_val(key);
  t->changes++;
  if (db_shared(db)) which = recent_home(t, key, v->mv_size);
  int rc = txn_point(t, which, &c);
  txn_check(t, rc ? rc : mdb_cursor_put(c, &k, v, how));
}

void txn_put(txn *t, enum db db, respool_bytes key, respool_bytes value) {
  MDB_val v = to_val(value);
  put(t, db, key, &v, 0);
}

void txn_put_null(txn *t, enum db db, respool_bytes key) {
  txn_put(t, db, key, (respool_bytes){"\xf6", 1});
}

void txn_put_packed(txn *t, enum db db, respool_bytes key, const packer *p) {
  txn_fail(t, p->rc);
  txn_put(t, db, key, (respool_bytes){p->data, p->len});
}

void *txn_reserve(txn *t, enum db db, respool_bytes key, size_t size) {
  MDB_val v = {size, NULL};
  put(t, db, key, &v, MDB_RESERVE);
  return t->rc ? NULL : v.mv_data;
}

void txn_del(txn *t, enum db db, respool_bytes key) {
  tree_key room;
  respool_bytes v;
  key = tree_key_of(db, key, &room);
  if (db_shared(db))
    recent_del(t, key);
  else if (txn_get_in(t, (int)db, key, &v))
    txn_del_here(t, (int)db);
}

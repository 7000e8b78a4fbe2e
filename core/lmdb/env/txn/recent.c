/* SPDX-License-Identifier: MIT */
/*
 * What has changed lately; see recent.h.
 */
#include "lmdb/env/txn/recent.h"

#include "base/fault.h"
#include "lmdb/env/txn/space.h"

#ifndef CHANGES_MOST /* attacks have fewer */
#define CHANGES_MOST 64 /* of a transaction that go to TREE_RECENT */
#endif
#define FOLD_MOST 1024  /* records that a commit moves */

/* A value that is larger shares no page: LMDB stores half a page or more in
   pages of its own. */
#define VALUE_MOST 1500

/* Leaves of TREE_RECENT, which grows no further where it cannot be moved. */
#define PAGES_MOST 4

static bool stat_recent(txn *t, MDB_stat *st) {
  if (t->rc) return false;
  txn_check(t, mdb_stat(t->mdb, t->env->trees[TREE_RECENT], st));
  return !t->rc;
}

bool recent_any(txn *t) {
  MDB_stat st;
  return stat_recent(t, &st) && st.ms_entries > 0;
}

static bool has_room(txn *t) {
  MDB_stat st;
  return stat_recent(t, &st) && st.ms_leaf_pages < PAGES_MOST;
}

/* Does the next change, of a value of that size, go to TREE_RECENT? */
static bool is_small(txn *t, size_t size) {
  return t->small_changes++ < CHANGES_MOST && size <= VALUE_MOST && has_room(t);
}

int recent_home(txn *t, respool_bytes key, size_t size) {
  respool_bytes v;
  if (is_small(t, size)) return TREE_RECENT;
  FAULT_POINT("recent left");
  if (recent_any(t) && txn_get_in(t, TREE_RECENT, key, &v))
    txn_del_here(t, TREE_RECENT);
  return TREE_STATE;
}

static void put_in(txn *t, int which, respool_bytes key, respool_bytes value) {
  MDB_cursor *c;
  MDB_val k = to_val(key), v = to_val(value);
  int rc = txn_point(t, which, &c);
  txn_check(t, rc ? rc : mdb_cursor_put(c, &k, &v, 0));
}

/* Takes a record out of TREE_RECENT and, if it is there, out of TREE_STATE. */
static void del_in_both(txn *t, bool recent, bool state) {
  if (recent) txn_del_here(t, TREE_RECENT);
  if (state) txn_del_here(t, TREE_STATE);
}

void recent_del(txn *t, respool_bytes key) {
  respool_bytes v;
  bool recent = recent_any(t) && txn_get_in(t, TREE_RECENT, key, &v);
  if (recent && recent_is_gone(v)) return;
  bool state = txn_get_in(t, TREE_STATE, key, &v);
  if (t->rc || !(recent || state)) return;
  if (!is_small(t, state ? v.size : 0) || !state) {
    del_in_both(t, recent, state);
    return;
  }
  t->changes++;
  put_in(t, TREE_RECENT, key, RECENT_GONE);
}

/* ---- moving them -------------------------------------------------------- */

/* Would the pages be copied in vain, on a full disk? */
static bool may_fold(txn *t, const MDB_stat *st) {
  MDB_stat state;
  txn_check(t, mdb_stat(t->mdb, t->env->trees[TREE_STATE], &state));
  uint64_t n = st->ms_entries < FOLD_MOST ? st->ms_entries : FOLD_MOST;
  uint64_t more = t->claimed + n * (state.ms_depth + 1) * state.ms_psize;
  return !t->rc && space_high_water(t->env) + more <= t->env->map_size &&
         space_has(t, more);
}

static void move_record(txn *t, respool_bytes key, respool_bytes value) {
  respool_bytes old;
  if (!recent_is_gone(value))
    put_in(t, TREE_STATE, key, value);
  else if (txn_get_in(t, TREE_STATE, key, &old))
    txn_del_here(t, TREE_STATE);
}

void recent_fold(txn *t) {
  MDB_stat st;
  MDB_cursor *c;
  MDB_val k, v;
  if (!t->changes || !stat_recent(t, &st) || st.ms_leaf_pages <= 1 ||
      !may_fold(t, &st))
    return;
  int rc = txn_point(t, TREE_RECENT, &c);
  for (size_t n = 0; !rc && n < FOLD_MOST && !t->rc; n++) {
    rc = mdb_cursor_get(c, &k, &v, MDB_FIRST);
    if (rc) break;
    move_record(t, to_bytes(k), to_bytes(v));
    if (!t->rc) rc = mdb_cursor_del(c, 0);
  }
  FAULT_POINT("recent moved");
  if (rc != MDB_NOTFOUND) txn_check(t, rc);
}

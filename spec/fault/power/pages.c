/* SPDX-License-Identifier: MIT */
/*
 * Counting pages: those of all databases, those on LMDB's free list (its
 * database 0: for each commit a count and that many numbers), and the two
 * that come first.
 */
#include "pages.h"

#include <lmdb.h>
#include <stdio.h>

static size_t tree_pages(const MDB_stat *st) {
  return st->ms_branch_pages + st->ms_leaf_pages + st->ms_overflow_pages;
}

/* The pages of all databases that the main one names, and its own. */
static size_t used_pages(MDB_txn *t) {
  MDB_stat st;
  MDB_cursor *c;
  MDB_val k, v;
  MDB_dbi db, root;
  size_t sum = 2; /* the metas */
  char name[64];
  if (mdb_stat(t, 0, &st)) return 0;
  sum += tree_pages(&st);
  if (mdb_dbi_open(t, NULL, 0, &root) || mdb_stat(t, root, &st) ||
      mdb_cursor_open(t, root, &c))
    return 0;
  sum += tree_pages(&st);
  while (mdb_cursor_get(c, &k, &v, MDB_NEXT) == 0) {
    snprintf(name, sizeof name, "%.*s", (int)k.mv_size, (char *)k.mv_data);
    if (mdb_dbi_open(t, name, 0, &db) || mdb_stat(t, db, &st)) return 0;
    sum += tree_pages(&st);
  }
  mdb_cursor_close(c);
  return sum;
}

static size_t free_pages(MDB_txn *t) {
  MDB_cursor *c;
  MDB_val k, v;
  size_t sum = 0;
  if (mdb_cursor_open(t, 0, &c)) return 0;
  while (mdb_cursor_get(c, &k, &v, MDB_NEXT) == 0)
    sum += *(const size_t *)v.mv_data;
  mdb_cursor_close(c);
  return sum;
}

static int count(MDB_env *e, const char *store, size_t *used, size_t *free) {
  MDB_txn *t;
  int rc = mdb_env_set_maxdbs(e, 32);
  if (!rc) rc = mdb_env_open(e, store, MDB_RDONLY | MDB_NOLOCK, 0600);
  if (!rc) rc = mdb_txn_begin(e, NULL, MDB_RDONLY, &t);
  if (rc) return rc;
  *used = used_pages(t);
  *free = free_pages(t);
  mdb_txn_abort(t);
  return 0;
}

bool pages_add_up(const char *store, char *text, size_t size) {
  MDB_env *e;
  MDB_envinfo info = {.me_last_pgno = 0};
  size_t used = 0, free = 0;
  if (mdb_env_create(&e)) return false;
  int rc = count(e, store, &used, &free);
  if (!rc) rc = mdb_env_info(e, &info);
  mdb_env_close(e);
  snprintf(text, size, "of %zu pages %zu are used and %zu free",
           info.me_last_pgno + 1, used, free);
  return !rc && used + free == info.me_last_pgno + 1;
}

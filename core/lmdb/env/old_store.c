/* SPDX-License-Identifier: MIT */
/*
 * Reading a store of an older format; see old_store.h. One transaction reads
 * it all, as nobody else writes there.
 */
#include "lmdb/env/old_store.h"

#include "lmdb/env/directory.h"

#include <string.h>

#define DATABASES 32

static void check_lmdb(old_store *s, int rc) {
  lmdb_env e = {.path = (char *)(uintptr_t)s->path};
  if (rc && !s->rc) s->rc = txn_env_fail(&e, "migrate", rc);
}

int old_open(old_store *s, const char *path, int dirfd) {
  char place[PLACE_MAX];
  *s = (old_store){.path = path};
  dir_place(dirfd, path, place);
  int rc = mdb_env_create(&s->mdb);
  if (!rc) rc = mdb_env_set_maxdbs(s->mdb, DATABASES);
  if (!rc) rc = mdb_env_open(s->mdb, place, MDB_RDONLY | MDB_NOLOCK, 0);
  if (!rc) rc = mdb_txn_begin(s->mdb, NULL, MDB_RDONLY, &s->t);
  check_lmdb(s, rc);
  if (rc) old_close(s);
  return s->rc;
}

void old_close(old_store *s) {
  if (s->t) mdb_txn_abort(s->t);
  if (s->mdb) mdb_env_close(s->mdb);
  s->t = NULL;
  s->mdb = NULL;
}

static bool find(old_store *s, const char *name, MDB_dbi *dbi) {
  if (s->rc) return false;
  int rc = mdb_dbi_open(s->t, name, 0, dbi);
  if (rc != MDB_NOTFOUND) check_lmdb(s, rc);
  return rc == 0;
}

bool old_get(old_store *s, const char *name, respool_bytes key,
             respool_bytes *value) {
  MDB_dbi dbi;
  MDB_val k = {key.size, (void *)(uintptr_t)key.data}, v;
  if (!find(s, name, &dbi)) return false;
  int rc = mdb_get(s->t, dbi, &k, &v);
  if (rc != MDB_NOTFOUND) check_lmdb(s, rc);
  if (rc) return false;
  *value = (respool_bytes){v.mv_data, v.mv_size};
  return true;
}

void old_cur_open(old_cur *c, old_store *s, const char *name) {
  MDB_dbi dbi;
  *c = (old_cur){.s = s};
  if (find(s, name, &dbi)) check_lmdb(s, mdb_cursor_open(s->t, dbi, &c->mdb));
}

void old_cur_close(old_cur *c) {
  if (c->mdb) mdb_cursor_close(c->mdb);
  c->mdb = NULL;
}

static bool move(old_cur *c, MDB_val k, MDB_cursor_op how) {
  MDB_val v;
  if (c->s->rc || !c->mdb) return false;
  respool_bytes before = c->key;
  int rc = mdb_cursor_get(c->mdb, &k, &v, how);
  if (rc != MDB_NOTFOUND) check_lmdb(c->s, rc);
  if (rc) return false;
  c->key = (respool_bytes){k.mv_data, k.mv_size};
  c->value = (respool_bytes){v.mv_data, v.mv_size};
  if (how == MDB_NEXT && before.data && !key_rises(before, c->key))
    check_lmdb(c->s, MDB_CORRUPTED); /* pages in a circle? */
  return !c->s->rc;
}

bool old_seek(old_cur *c, respool_bytes key) {
  return move(c, (MDB_val){key.size, (void *)(uintptr_t)key.data},
              MDB_SET_RANGE);
}

bool old_next(old_cur *c) {
  return move(c, (MDB_val){0, NULL}, MDB_NEXT);
}

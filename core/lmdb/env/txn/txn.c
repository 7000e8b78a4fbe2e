/* SPDX-License-Identifier: MIT */
/*
 * Transactions and records of an open environment; see txn.h. Errors of LMDB
 * become respool's codes here and nowhere else.
 */
#include "lmdb/env/txn/txn.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* ---- errors ------------------------------------------------------------- */

static int code_of(int rc) {
  switch (rc) {
    case MDB_MAP_FULL: return RESPOOL_FULL;
    case ENOSPC:
    case EDQUOT: return RESPOOL_NOSPACE;
    case ENOMEM: return RESPOOL_NOMEM;
    case MDB_TXN_FULL: return RESPOOL_TOO_LARGE;
    case MDB_READERS_FULL: return RESPOOL_BUSY;
    case MDB_CORRUPTED:
    case MDB_CURSOR_FULL: /* pages in a circle */
    case MDB_BAD_TXN:     /* it has met such a page before */
    case MDB_PAGE_NOTFOUND: return RESPOOL_CORRUPT;
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH: return RESPOOL_VERSION;
    default: return RESPOOL_IO;
  }
}

/* LMDB locks a byte of its lock file that has the number of the process. */
static int fail_of_twin(const lmdb_env *e) {
  return fail(RESPOOL_LOCKED, "cannot open store '%.60s': a process of "
              "another container (pid namespace) that has this one's number, "
              "%d, uses it; let them share a pid namespace, or use PostgreSQL",
              e->path, (int)getpid());
}

int txn_env_fail(const lmdb_env *e, const char *what, int rc) {
  if (rc == EAGAIN) return fail_of_store(fail_of_twin(e));
  int code = code_of(rc);
  const char *hint = code == RESPOOL_CORRUPT ? "; see respool check" : "";
  return fail_of_store(fail(code, "cannot %s store '%.120s': %s%s", what,
                            e->path, mdb_strerror(rc), hint));
}

void txn_check(txn *t, int rc) {
  if (t->rc || rc == 0) return;
  t->changes++;
  t->rc = txn_env_fail(t->env, t->write ? "write" : "read", rc);
}

void txn_fail(txn *t, int rc) {
  if (t->rc || rc == 0) return;
  t->changes++;
  t->rc = fail(rc, "cannot use store '%.120s': %s", t->env->path,
               respool_strerror(rc));
}

void txn_note(txn *t, int rc) {
  if (t->rc || rc == 0) return;
  t->changes++;
  t->rc = rc;
}

/* ---- turns -------------------------------------------------------------- */

int txn_take_turn(lmdb_env *e) {
  mdb_filehandle_t fd;
  if (e->memory || !e->mdb || mdb_env_get_fd(e->mdb, &fd)) return 0;
  return turn_take(&e->turn, &e->base, fd, e->path);
}

void txn_end_turn(lmdb_env *e) {
  if (!e->memory && e->mdb) turn_end(&e->turn);
}

/* ---- the environment ---------------------------------------------------- */

/* LMDB returns INCOMPATIBLE when it did not find all pages in use. */
int txn_env_copy(lmdb_env *e, int fd) {
  int rc = mdb_env_copyfd2(e->mdb, fd, MDB_CP_COMPACT);
  if (rc == MDB_INCOMPATIBLE) rc = MDB_CORRUPTED;
  return rc ? txn_env_fail(e, "copy", rc) : 0;
}

int txn_env_sync(lmdb_env *e) {
  if (e->memory || e->read_only) return 0;
  int rc = mdb_env_sync(e->mdb, 1);
  if (!rc) return 0;
  txn_env_fail(e, "flush", rc);
  return RESPOOL_UNKNOWN_OUTCOME;
}

int txn_env_readers(lmdb_env *e, int *dead) {
  int rc = mdb_reader_check(e->mdb, dead);
  return rc ? txn_env_fail(e, "check readers of", rc) : 0;
}

uint64_t txn_env_newest(const lmdb_env *e) {
  MDB_envinfo info;
  return mdb_env_info(e->mdb, &info) ? 0 : info.me_last_txnid;
}

/* ---- transactions ------------------------------------------------------- */

static int begin_once(lmdb_env *e, bool write, txn *t) {
  return mdb_txn_begin(e->mdb, NULL, write ? 0 : MDB_RDONLY, &t->mdb);
}

int txn_begin(lmdb_env *e, bool write, txn *t) {
  memset(t, 0, sizeof *t);
  t->env = e;
  t->write = write;
  if (write && txn_take_turn(e)) return RESPOOL_LOCKED;
  int rc = begin_once(e, write, t);
  if (rc == MDB_READERS_FULL) { /* slots of processes that died? */
    int dead;
    mdb_reader_check(e->mdb, &dead);
    rc = begin_once(e, write, t);
  }
  if (rc && write) txn_end_turn(e);
  if (rc == MDB_PANIC || rc == MDB_MAP_RESIZED) e->must_reopen = true;
  return rc ? txn_env_fail(e, write ? "write" : "read", rc) : 0;
}

/* Did a full disk take only part of the pages? LMDB returns EIO for that too,
   but then no call has failed with EIO. Nothing refers to those pages, unless
   it was the meta page: then LMDB refuses to go on. */
static bool was_cut_short(lmdb_env *e, int rc, int error) {
  MDB_txn *next;
  if (rc != EIO || error == EIO || mdb_txn_begin(e->mdb, NULL, 0, &next))
    return false;
  mdb_txn_abort(next);
  return true;
}

/* Commits, and ends this process's turn to write. */
static int commit_pages(txn *t) {
  errno = 0;
  int rc = mdb_txn_commit(t->mdb);
  if (rc && was_cut_short(t->env, rc, errno)) rc = ENOSPC;
  t->mdb = NULL;
  txn_end_turn(t->env);
  return rc;
}

/* Ensures: 1. 0 means that the data is flushed and the commit visible; it
   is durable after the next flush. 2. FULL, NOSPACE, NOMEM mean that nothing
   has changed. 3. After anything else the outcome is unknown, and the
   environment is marked to be opened again. */
int txn_commit(txn *t) {
  if (t->rc) {
    txn_abort(t);
    return t->rc;
  }
  int rc = commit_pages(t);
  if (!rc) return 0; /* 1 */
  int code = txn_env_fail(t->env, "commit to", rc);
  if (code == RESPOOL_FULL || code == RESPOOL_NOSPACE ||
      code == RESPOOL_NOMEM)
    return code; /* 2 */
  t->env->must_reopen = true;
  return RESPOOL_UNKNOWN_OUTCOME; /* 3 */
}

void txn_abort(txn *t) {
  if (t->mdb) mdb_txn_abort(t->mdb);
  if (t->mdb && t->write) txn_end_turn(t->env);
  t->mdb = NULL;
}

bool txn_follows(const txn *t, size_t last) {
  size_t now = mdb_txn_id(t->mdb);
  return t->write ? now == last + 1 : now == last;
}

size_t txn_number(const txn *t) {
  return mdb_txn_id(t->mdb);
}

/* ---- point access ------------------------------------------------------- */

/* A key that is too long stays so, for LMDB to refuse. */
respool_bytes tree_key_of(enum db db, respool_bytes key, tree_key *room) {
  if (!db_shared(db)) return key;
  size_t n = key.size < TREE_KEY_MAX ? key.size : TREE_KEY_MAX;
  room->b[0] = (uint8_t)db;
  if (n) memcpy(room->b + 1, key.data, n);
  return (respool_bytes){room->b, n + 1};
}

int txn_point(txn *t, int which, MDB_cursor **c) {
  MDB_cursor **at = &t->at[which];
  int rc = *at ? 0 : mdb_cursor_open(t->mdb, t->env->trees[which], at);
  *c = *at;
  return rc;
}

static int get_in(txn *t, int which, MDB_val *k, MDB_val *v) {
  MDB_cursor *c;
  if (!t->write) return mdb_get(t->mdb, t->env->trees[which], k, v);
  int rc = txn_point(t, which, &c);
  return rc ? rc : mdb_cursor_get(c, k, v, MDB_SET);
}

static bool found(txn *t, int rc) {
  if (rc != MDB_NOTFOUND) txn_check(t, rc);
  return rc == 0;
}

bool txn_get_in(txn *t, int which, respool_bytes key, respool_bytes *value) {
  if (t->rc) return false;
  MDB_val k = to_val(key), v;
  if (!found(t, get_in(t, which, &k, &v))) return false;
  *value = to_bytes(v);
  return true;
}

void txn_del_here(txn *t, int which) {
  if (t->rc) return;
  t->changes++;
  txn_check(t, mdb_cursor_del(t->at[which], 0));
}

size_t txn_entries(txn *t, int which) {
  MDB_stat st;
  if (!t->rc) txn_check(t, mdb_stat(t->mdb, t->env->trees[which], &st));
  return t->rc ? 0 : st.ms_entries;
}

bool key_rises(respool_bytes from, respool_bytes to) {
  size_t n = from.size < to.size ? from.size : to.size;
  int order = n ? memcmp(from.data, to.data, n) : 0;
  return order < 0 || (order == 0 && from.size < to.size);
}

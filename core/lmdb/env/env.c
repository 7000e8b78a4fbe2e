/* SPDX-License-Identifier: MIT */
/*
 * Environments; see env.h. The store's directory is locked while it is opened.
 */
#include "lmdb/env/env.h"

#include "lmdb/env/create.h"
#include "lmdb/env/directory.h"
#include "lmdb/env/files.h"
#include "lmdb/env/open.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#define MAP_SIZE ((size_t)64 << 30)
#define OPEN_TRIES 20 /* 1, 2, 3, ... ms apart */

/* ---- opened and closed -------------------------------------------------- */

static size_t map_size(uint64_t max_bytes) {
  return max_bytes > MAP_SIZE / 4 ? (size_t)max_bytes * 4 : MAP_SIZE;
}

/* The process may go to another directory. */
static char *absolute(const char *path) {
  char *here = *path == '/' ? NULL : getcwd(NULL, 0), *whole;
  if (!here) return strdup(path);
  if (asprintf(&whole, "%s/%s", here, path) < 0) whole = NULL;
  free(here);
  return whole;
}

lmdb_env *env_new(const char *path, const respool_options *o) {
  lmdb_env *e = calloc(1, sizeof *e);
  if (!e) return NULL;
  e->dirfd = e->held[0] = e->held[1] = -1;
  e->path = strdup(path);
  e->absolute = absolute(path);
  if (!e->path || !e->absolute) {
    free(e->path);
    free(e->absolute);
    free(e);
    return NULL;
  }
  e->base.pid = getpid();
  e->max_readers = o->max_readers ? o->max_readers : 256;
  e->map_size = map_size(o->max_bytes);
  e->read_only = o->read_only;
  e->refs = 1;
  commits_init(&e->commits);
  turn_init(&e->turn);
  pthread_rwlock_init(&e->reopen_lock, NULL);
  return e;
}

static void env_drop_states(lmdb_env *e) {
  if (e->states) e->states_free(e->states);
  if (e->names) e->names_free(e->names);
  e->states = e->names = NULL;
}

static void close_held(lmdb_env *e) {
  for (int i = 0; i < 2; i++)
    if (e->held[i] >= 0) close(e->held[i]);
  if (e->dirfd >= 0) close(e->dirfd);
}

void env_free(lmdb_env *e) {
  env_drop_states(e);
  txn_env_close(e);
  if (e->beside) e->beside->close(e);
  pthread_rwlock_destroy(&e->reopen_lock);
  commits_destroy(&e->commits);
  turn_destroy(&e->turn);
  close_held(e);
  free(e->path);
  free(e->absolute);
  free(e);
}

static int open_beside(lmdb_env *e) {
  if (!e->beside || e->journal || e->read_only || e->memory) return 0;
  return e->beside->open(e);
}

/* Opens with the directory locked, one process at a time. Ensures: 1. No file
   is opened that is replaced before LMDB's own locks show that it is open.
   2. No process waits at LMDB's lock file for the first one to open it, which
   may be killed before it has filled the lock file. */
static int open_locked(lmdb_env *e) {
  int rc = dir_lock(e->dirfd, e->path, LOCK_EX);
  if (rc) return rc;
  int error = dir_look(e->dirfd);
  if (error == ENOENT && !e->read_only && !e->must_reopen)
    rc = store_make(e);
  else if (error)
    rc = dir_fail(e->path, error);
  if (!rc) rc = open_beside(e);
  if (!rc) rc = txn_env_open(e);
  dir_unlock(e->dirfd);
  return rc;
}

/* A lock file that was left half made is made anew by the first process to open
   the store after all have closed it. */
static bool try_again(int rc, int n) {
  struct timespec pause = {0, n * 1000000L};
  if (rc != LOCK_STALE || n > OPEN_TRIES) return false;
  nanosleep(&pause, NULL);
  return true;
}

/* Others wait for the first to start what is beside LMDB, some of them with
   the directory locked: so it is closed before another try. */
int env_start(lmdb_env *e) {
  bool again = e->must_reopen; /* then that stays open */
  int rc, n = 0;
  do {
    rc = open_locked(e);
    if (!rc) rc = txn_env_use(e, format_check);
    if (!rc && !again && e->journal) rc = e->beside->start(e);
    if (!rc) e->started = true;
    if (rc && !again && e->beside) e->beside->close(e);
  } while (try_again(rc, ++n));
  if (!rc) e->must_reopen = false;
  if (rc != LOCK_STALE) return rc;
  return fail(RESPOOL_BUSY, "the lock file of store '%.120s' was left half "
              "made: close the store everywhere, and open it again", e->path);
}

void env_retire(lmdb_env *e) {
  pthread_rwlock_wrlock(&e->reopen_lock);
  (void)files_astray(e);
  txn_env_close(e);
  env_drop_states(e);
  pthread_rwlock_unlock(&e->reopen_lock);
}

/* ---- transactions ------------------------------------------------------- */

/* Must the environment be reopened before use? */
static bool needs_reopen(const lmdb_env *e) {
  return e->must_reopen || !e->mdb;
}

/* Reopens the environment after an I/O error, whose outcome is unknown. */
static int env_reopen(lmdb_env *e) {
  int rc = 0;
  pthread_rwlock_unlock(&e->reopen_lock);
  pthread_rwlock_wrlock(&e->reopen_lock);
  if (e->must_reopen) {
    txn_env_close(e);
    env_drop_states(e);
    rc = files_check(e, LOOK_NOW);
    if (!rc) rc = env_start(e);
    if (rc == FORMAT_OLD) rc = RESPOOL_VERSION; /* another store by now */
  }
  pthread_rwlock_unlock(&e->reopen_lock);
  pthread_rwlock_rdlock(&e->reopen_lock);
  if (!rc && needs_reopen(e))
    rc = fail(RESPOOL_IO, "store '%.160s' is not readable", e->path);
  return rc;
}

/* A writer whose files are others by now, or whose lock file tells of other
   data, must not go on. */
static int check_files(txn *t) {
  int rc = files_check(t->env, LOOK_NOW);
  if (!rc && !txn_follows(t, txn_env_newest(t->env)))
    rc = files_astray(t->env);
  if (rc) txn_abort(t);
  return rc;
}

static int begin_checked(lmdb_env *e, bool write, txn *t) {
  int rc = txn_begin(e, write, t);
  return rc || !write ? rc : check_files(t);
}

/* Begins; tries once more when the environment had to be reopened. */
static int begin(lmdb_env *e, bool write, txn *t) {
  int rc = write ? 0 : files_check(e, LOOK_SELDOM);
  if (needs_reopen(e)) rc = env_reopen(e);
  if (!rc) rc = begin_checked(e, write, t);
  if (rc && e->must_reopen && e->mdb) {
    rc = env_reopen(e);
    if (!rc) rc = begin_checked(e, write, t);
  }
  return rc;
}

int env_begin(env *base, bool write, txn **out) {
  lmdb_env *e = (lmdb_env *)base;
  txn *t = malloc(sizeof *t);
  if (!t) return fail(RESPOOL_NOMEM, "not enough memory for a transaction");
  pthread_rwlock_rdlock(&e->reopen_lock);
  int rc = begin(e, write, t);
  if (rc) {
    pthread_rwlock_unlock(&e->reopen_lock);
    free(t);
    return rc;
  }
  *out = t;
  return 0;
}

void env_end(txn *t) {
  pthread_rwlock_unlock(&t->env->reopen_lock);
  free(t);
}

int env_sync(env *base) {
  lmdb_env *e = (lmdb_env *)base;
  pthread_rwlock_rdlock(&e->reopen_lock);
  int rc = files_check(e, LOOK_SELDOM);
  if (needs_reopen(e)) rc = env_reopen(e);
  if (!rc) rc = txn_env_sync(e);
  if (rc == RESPOOL_UNKNOWN_OUTCOME) e->must_reopen = true;
  pthread_rwlock_unlock(&e->reopen_lock);
  return rc;
}

int env_check(env *base, int how) {
  lmdb_env *e = (lmdb_env *)base;
  pthread_rwlock_rdlock(&e->reopen_lock);
  int rc = files_check(e, how);
  pthread_rwlock_unlock(&e->reopen_lock);
  return rc;
}

bool env_hold(env *base) {
  lmdb_env *e = (lmdb_env *)base;
  pthread_rwlock_rdlock(&e->reopen_lock);
  if (e->mdb && !files_check(e, LOOK_SELDOM)) return true;
  pthread_rwlock_unlock(&e->reopen_lock);
  return false;
}

void env_release(env *base) {
  pthread_rwlock_unlock(&((lmdb_env *)base)->reopen_lock);
}

uint64_t env_last(env *base) {
  lmdb_env *e = (lmdb_env *)base;
  if (!env_hold(base)) return 0;
  uint64_t last = txn_env_newest(e);
  env_release(base);
  return last;
}

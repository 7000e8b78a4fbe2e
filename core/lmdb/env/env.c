/* SPDX-License-Identifier: MIT */
/*
 * Open environments. LMDB lets a process open one environment twice and
 * then loses its locks, so there is one registry for the process, by device
 * and inode, counted, behind a mutex. The store's directory is locked while the
 * store is opened and while its data file is replaced. After an I/O error the
 * environment is closed and opened again before it is used: the data then on
 * disk is the outcome.
 *
 * A child of fork inherits its parent's entries and never uses them: entries
 * are distinguished by their pid.
 */
#include "lmdb/env/env.h"

#include "lmdb/env/create.h"
#include "lmdb/env/directory.h"
#include "lmdb/env/files.h"
#include "lmdb/env/open.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#define MAP_SIZE ((size_t)64 << 30)
#define OPEN_TRIES 20 /* 1, 2, 3, ... ms apart */

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static lmdb_env *registry;

/* In a child of fork: another thread of the parent may have held the lock. */
static void fresh_lock(void) {
  pthread_mutex_init(&registry_lock, NULL);
}

static void watch_forks(void) {
  pthread_atfork(NULL, NULL, fresh_lock);
}

/* ---- making one --------------------------------------------------------- */

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

static lmdb_env *env_new(const char *path, const respool_options *o) {
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
  e->states = NULL;
}

static void close_held(lmdb_env *e) {
  for (int i = 0; i < 2; i++)
    if (e->held[i] >= 0) close(e->held[i]);
  if (e->dirfd >= 0) close(e->dirfd);
}

static void env_free(lmdb_env *e) {
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
static int env_start(lmdb_env *e) {
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

/* ---- the registry ------------------------------------------------------- */

static lmdb_env *find_open(const struct stat *st) {
  for (lmdb_env *e = registry; e; e = e->next)
    if (e->dev == st->st_dev && e->ino == st->st_ino && !e->memory &&
        e->base.pid == getpid() && !e->gone)
      return e;
  return NULL;
}

static void registry_add(lmdb_env *e) {
  e->next = registry;
  registry = e;
}

static void registry_remove(lmdb_env *e) {
  lmdb_env **p = &registry;
  while (*p && *p != e) p = &(*p)->next;
  if (*p) *p = e->next;
}

/* The first step when the verbs open an environment; it may be open already
   for a copy. */
static int attach(lmdb_env *e, const engine *g, int (*first)(env *e)) {
  if (!first || e->base.commit) return 0;
  e->base.engine = g;
  return first(&e->base);
}

/* Another handle on an environment that is open already. */
static int share(lmdb_env *e, const respool_options *o, lmdb_env **out) {
  if (e->read_only && !o->read_only)
    return fail(RESPOOL_BUSY, "store '%.160s' is open in this process, "
                "read-only", e->path);
  e->refs++;
  *out = e;
  return 0;
}

/* Ends the use of files that are not the store any more, without which those
   in their place could not be opened safely: LMDB's locks on them would end
   with this environment. */
static void retire(lmdb_env *e) {
  pthread_rwlock_wrlock(&e->reopen_lock);
  (void)files_astray(e);
  txn_env_close(e);
  env_drop_states(e);
  pthread_rwlock_unlock(&e->reopen_lock);
}

static lmdb_env *find_here(const struct stat *st) {
  lmdb_env *e = find_open(st);
  if (!e || !files_check(e, LOOK_NOW)) return e;
  retire(e);
  return NULL;
}

/* Opens what is not open yet; the environment has the directory. */
static int open_new(const engine *g, const env_beside *beside,
                    const char *path, int dirfd, const struct stat *st,
                    const respool_options *o, int (*first)(env *e),
                    lmdb_env **out) {
  lmdb_env *e = env_new(path, o);
  if (!e) {
    close(dirfd);
    return fail(RESPOOL_NOMEM, "not enough memory to open a store");
  }
  e->dirfd = dirfd;
  e->beside = beside;
  e->dev = st->st_dev;
  e->ino = st->st_ino;
  int rc = env_start(e);
  if (!rc) rc = attach(e, g, first);
  if (rc) {
    env_free(e);
    return rc;
  }
  if (!e->read_only) (void)fsync(dirfd);
  registry_add(e);
  *out = e;
  return 0;
}

/* Opens a directory. The caller holds the registry's lock. */
static int open_dir(const engine *g, const env_beside *beside,
                    const char *path, const respool_options *o,
                    int (*first)(env *e), lmdb_env **out) {
  struct stat st;
  int dirfd, rc = dir_open(path, !o->no_create && !o->read_only, &dirfd);
  if (rc) return rc;
  if (fstat(dirfd, &st)) rc = dir_fail(path, errno);
  lmdb_env *e = rc ? NULL : find_here(&st);
  if (!rc && !e)
    return open_new(g, beside, path, dirfd, &st, o, first, out);
  close(dirfd);
  if (!rc) rc = attach(e, g, first);
  return rc ? rc : share(e, o, out);
}

/* Tries to lock the directory of a store that this process does not have open.
   Processes that open the store then wait for the lock. */
static int try_lock(const char *path, int *out) {
  struct stat st;
  int dirfd, rc = dir_open(path, false, &dirfd);
  if (rc) return rc;
  if (!fstat(dirfd, &st) && find_here(&st))
    rc = fail(RESPOOL_LOCKED, "store '%.160s' is open in this process",
              path);
  if (!rc) rc = dir_lock(dirfd, path, LOCK_EX | LOCK_NB);
  if (rc)
    close(dirfd);
  else
    *out = dirfd;
  return rc;
}

/* A process that opens the store holds the lock for a moment only, so this
   tries for a second. */
int store_lock_exclusive(const char *path, int *dirfd) {
  static const struct timespec pause = {0, 10000000};
  int rc = RESPOOL_LOCKED;
  for (int i = 0; i < 100 && rc == RESPOOL_LOCKED; i++) {
    if (i > 0) nanosleep(&pause, NULL);
    pthread_mutex_lock(&registry_lock);
    rc = try_lock(path, dirfd);
    pthread_mutex_unlock(&registry_lock);
  }
  return rc;
}

static void unlink_files(const char *dir) {
  static const char *const files[] = {"data.mdb", "lock.mdb",
                                      "data.mdb.new"};
  char path[64];
  for (int i = 0; i < 3; i++) {
    snprintf(path, sizeof path, "%s/%s", dir, files[i]);
    unlink(path);
  }
  rmdir(dir);
}

/* Opens a private store, whose files are unlinked once it is open. */
static int open_memory(const engine *g, const respool_options *o,
                       int (*first)(env *e), lmdb_env **out) {
  char shm[] = "/dev/shm/respool-XXXXXX", tmp[] = "/tmp/respool-XXXXXX";
  char *dir = mkdtemp(shm);
  if (!dir) dir = mkdtemp(tmp);
  if (!dir) return dir_fail(":memory:", errno);
  lmdb_env *e = env_new(dir, o);
  int rc = RESPOOL_NOMEM;
  if (e) {
    e->memory = true;
    e->dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    rc = e->dirfd < 0 ? dir_fail(dir, errno) : env_start(e);
    unlink_files(dir);
    if (!rc) rc = attach(e, g, first);
  }
  if (rc) {
    if (e) env_free(e);
    return rc;
  }
  registry_add(e);
  *out = e;
  return 0;
}

/* A transaction allocates much memory and frees it all. glibc returns it to the
   system each time, and gets it back by page faults: a fifth of the time. Once
   a block of this size has been freed, glibc keeps twice as much (mallopt(3),
   "dynamic mmap threshold"). */
static void keep_memory(void) {
  void *volatile block = malloc((size_t)4 << 20);
  free(block);
}

static void prepare(void) {
  watch_forks();
  keep_memory();
}

int env_open(const engine *g, const env_beside *beside, const char *path,
             const respool_options *o, int (*first)(env *e), env **e) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, prepare);
  lmdb_env *opened = NULL;
  pthread_mutex_lock(&registry_lock);
  int rc = strcmp(path, ":memory:")
               ? open_dir(g, beside, path, o, first, &opened)
               : open_memory(g, o, first, &opened);
  pthread_mutex_unlock(&registry_lock);
  if (!rc) *e = &opened->base;
  return rc;
}

void env_close(env *base) {
  lmdb_env *e = (lmdb_env *)base;
  pthread_mutex_lock(&registry_lock);
  if (--e->refs == 0) {
    registry_remove(e);
    if (base->closing) base->closing(base);
    if (e->mdb) txn_env_sync(e);
    env_free(e);
  }
  pthread_mutex_unlock(&registry_lock);
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

/* LMDB locks its lock file while it is open. A process does not see its own
   lock, and would lose it by closing the file: so the registry is asked first.
   */
static bool is_open_elsewhere(int dirfd) {
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
  int fd = file_open(dirfd, LOCK_NAME, O_RDWR);
  bool locked = fd >= 0 && fcntl(fd, F_GETLK, &lock) == 0 &&
                lock.l_type != F_UNLCK;
  if (fd >= 0) close(fd);
  return locked;
}

bool env_is_open(int dirfd) {
  struct stat st;
  pthread_mutex_lock(&registry_lock);
  bool open_here = fstat(dirfd, &st) == 0 && find_open(&st);
  pthread_mutex_unlock(&registry_lock);
  return open_here || is_open_elsewhere(dirfd);
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

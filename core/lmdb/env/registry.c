/* SPDX-License-Identifier: MIT */
/*
 * The registry; see registry.h. A child of fork inherits its parent's entries
 * and never uses them: entries are distinguished by their pid.
 */
#include "lmdb/env/registry.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "lmdb/env/directory.h"
#include "lmdb/env/env.h"
#include "lmdb/env/files.h"

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static lmdb_env *registry;

/* In a child of fork: another thread of the parent may have held the lock. */
static void fresh_lock(void) {
  pthread_mutex_init(&registry_lock, NULL);
}

static void watch_forks(void) {
  pthread_atfork(NULL, NULL, fresh_lock);
}

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

static lmdb_env *find_here(const struct stat *st) {
  lmdb_env *e = find_open(st);
  if (!e || !files_check(e, LOOK_NOW)) return e;
  env_retire(e);
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

/* SPDX-License-Identifier: MIT */
/*
 * Compaction: writes the data file anew without its free pages, in its place
 * or to another directory.
 *
 * In its place. A process that has a store open holds a shared lock on byte 0
 * of LMDB's lock file; one that opens a store first locks its directory. With
 * the directory and that byte locked by us no process has the store open or
 * can open it, so the copy is complete. The number of the last commit in the
 * lock file is then wrong; but the first process to open a store writes the
 * lock file anew, and the next one to open this store is the first.
 *
 * The lock belongs to the open file, not to the process (F_OFD_SETLK): closing
 * another descriptor of the file does not lose it.
 */
#include "lmdb/repair/compact.h"

#include "base/file.h"
#include "lmdb/env/directory.h"
#include "lmdb/env/env.h"
#include "lmdb/env/open.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define NEW_NAME "compact.mdb" /* of the file until it is whole */

/* A copy in the making, in a directory. */
typedef struct copy {
  const char *dir;
  int dirfd, fd;
} copy;

static int compact_fail(const char *path, const char *what, int error) {
  int code = error == ENOSPC || error == EDQUOT ? RESPOOL_NOSPACE
                                                : RESPOOL_IO;
  return fail(code, "cannot %s '%.160s': %s", what, path,
              file_error(error));
}

static int copy_fail(const copy *c, const char *what) {
  int error = errno;
  char path[FAIL_LINE];
  snprintf(path, sizeof path, "%.150s/" NEW_NAME, c->dir);
  return compact_fail(path, what, error);
}

static int look_at_data(const char *path, int dirfd, struct stat *st) {
  return file_look(dirfd, DATA_NAME, st) ? compact_fail(path, "read", errno)
                                         : 0;
}

/* ---- a copy: open, fill, publish, close --------------------------------- */

/* A copy is no more readable than the old file. */
static int copy_open(copy *c, const char *dir, int dirfd,
                     const struct stat *old) {
  *c = (copy){dir, dirfd, -1};
  (void)unlinkat(dirfd, NEW_NAME, 0); /* a leftover */
  c->fd = file_make(dirfd, NEW_NAME, old->st_mode & FILE_MODE);
  return c->fd < 0 ? copy_fail(c, "make") : 0;
}

/* Gives the copy the owner and mode of the old file. It was made where nothing
   was: it is ours. */
static int copy_own(const copy *c, const struct stat *old) {
  struct stat st;
  if (fstat(c->fd, &st)) return copy_fail(c, "look at");
  if ((st.st_uid != old->st_uid || st.st_gid != old->st_gid) &&
      fchown(c->fd, old->st_uid, old->st_gid))
    return copy_fail(c, "give its owner");
  if (fchmod(c->fd, old->st_mode & 0777))
    return copy_fail(c, "set the mode of");
  return 0;
}

/* Ensures: 1. The data is on disk before it is published. 2. The name is on
   disk when this returns 0. 3. At any moment `data` is the old file or the new
   one. */
static int copy_publish(const copy *c, uint64_t *size) {
  struct stat st;
  if (fsync(c->fd) || fstat(c->fd, &st)) /* 1 */
    return copy_fail(c, "write");
  if (renameat(c->dirfd, NEW_NAME, c->dirfd, DATA_NAME)) /* 3 */
    return copy_fail(c, "rename");
  if (fsync(c->dirfd)) return compact_fail(c->dir, "flush", errno); /* 2 */
  *size = (uint64_t)st.st_size;
  return 0;
}

/* Closes the copy; removes it unless it was published. */
static void copy_close(copy *c, bool published) {
  if (c->fd < 0) return;
  close(c->fd);
  if (!published) (void)unlinkat(c->dirfd, NEW_NAME, 0);
}

/* ---- in its place ------------------------------------------------------- */

/* Locks the store; LOCKED when another process has it open. */
static int lock_alone(const char *path, int dirfd, int *out) {
  struct flock byte = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
  int fd = file_open_or_make(dirfd, LOCK_NAME), rc;
  if (fd < 0) return compact_fail(path, "open the lock file of", errno);
  if (!fcntl(fd, F_OFD_SETLK, &byte)) {
    *out = fd;
    return 0;
  }
  rc = errno;
  close(fd);
  if (rc == EAGAIN || rc == EACCES)
    return fail(RESPOOL_LOCKED, "another process has store '%.160s' open",
                path);
  return compact_fail(path, "lock", rc);
}

static int fill_alone(const copy *c) {
  lmdb_env e = {.path = (char *)(uintptr_t)c->dir, .dirfd = c->dirfd};
  int rc = txn_env_open_alone(&e);
  if (rc) return rc;
  rc = txn_env_copy(&e, c->fd);
  txn_env_close(&e);
  return rc;
}

static int replace(const char *path, int dirfd, respool_compaction *out) {
  respool_compaction done = *out;
  struct stat old;
  copy c;
  int rc = look_at_data(path, dirfd, &old);
  if (rc) return rc;
  rc = copy_open(&c, path, dirfd, &old);
  if (!rc) rc = copy_own(&c, &old);
  if (!rc) rc = fill_alone(&c);
  if (!rc) rc = copy_publish(&c, &done.after);
  copy_close(&c, !rc);
  if (rc) return rc;
  done.before = (uint64_t)old.st_size;
  *out = done;
  return 0;
}

static int compact_here(const char *path, respool_compaction *out) {
  int dirfd, alone = -1;
  int rc = store_lock_exclusive(path, &dirfd);
  if (rc) return rc;
  rc = lock_alone(path, dirfd, &alone);
  if (!rc) {
    rc = replace(path, dirfd, out);
    close(alone);
  }
  dir_unlock(dirfd);
  close(dirfd);
  return rc;
}

/* ---- to another directory ----------------------------------------------- */

static int fill_from(const copy *c, env *from) {
  txn *t;
  int rc = env_begin(from, false, &t);
  if (rc) return rc;
  rc = txn_env_copy((lmdb_env *)from, c->fd);
  txn_abort(t);
  env_end(t);
  return rc;
}

/* With the directory `to` locked, so that no process makes a store there. */
static int fill_dir(env *from, const char *path, const char *to, int dirfd,
                    respool_compaction *out) {
  respool_compaction done = *out;
  struct stat old;
  copy c;
  int error = dir_look(dirfd);
  if (!error || error == ENODATA)
    return fail(RESPOOL_EXISTS, "there is a store in '%.160s' already", to);
  if (error != ENOENT) return compact_fail(to, "write a store to", error);
  int rc = look_at_data(path, ((lmdb_env *)from)->dirfd, &old);
  if (rc) return rc;
  rc = copy_open(&c, to, dirfd, &old);
  if (!rc) rc = fill_from(&c, from);
  if (!rc) rc = copy_publish(&c, &done.after);
  copy_close(&c, !rc);
  if (rc) return rc;
  done.before = (uint64_t)old.st_size;
  *out = done;
  return 0;
}

static int compact_into(env *from, const char *path, const char *to,
                        respool_compaction *out) {
  int dirfd;
  int rc = dir_open(to, true, &dirfd);
  if (rc) return rc;
  rc = dir_lock(dirfd, to, LOCK_EX | LOCK_NB);
  if (!rc) {
    rc = fill_dir(from, path, to, dirfd, out);
    dir_unlock(dirfd);
  }
  close(dirfd);
  return rc;
}

static int compact_to(const char *path, const char *to,
                      respool_compaction *out) {
  respool_options o = RESPOOL_OPTIONS_INIT;
  env *from;
  o.read_only = 1;
  int rc = env_open(NULL, path, &o, NULL, &from);
  if (rc) return rc;
  rc = compact_into(from, path, to, out);
  env_close(from);
  return rc;
}

int lmdb_compact(const char *path, const char *to, respool_compaction *out) {
  return to ? compact_to(path, to, out) : compact_here(path, out);
}

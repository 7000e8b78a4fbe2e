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

#include "lmdb/env/directory.h"
#include "lmdb/env/env.h"
#include "lmdb/env/open.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define NEW_NAME "compact.mdb" /* of the file until it is whole */
#define FILE_MODE 0640

/* A copy in the making, in directory `dir`. */
typedef struct copy {
  const char *dir;
  char *data, *made; /* names: data.mdb, and the new file */
  int fd;
} copy;

static int compact_fail(const char *path, const char *what, int error) {
  int code = error == ENOSPC || error == EDQUOT ? RESPOOL_NOSPACE
                                                : RESPOOL_IO;
  return fail(code, "cannot %s \"%.160s\": %s", what, path, strerror(error));
}

/* ---- a copy: open, fill, publish, close --------------------------------- */

static int copy_open(copy *c, const char *dir) {
  *c = (copy){dir, dir_file(dir, "data.mdb"), dir_file(dir, NEW_NAME), -1};
  if (!c->data || !c->made)
    return fail(RESPOOL_NOMEM, "not enough memory to compact a store");
  c->fd = open(c->made, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, FILE_MODE);
  return c->fd < 0 ? compact_fail(c->made, "make", errno) : 0;
}

/* Gives the copy the owner and mode of the old file. */
static int copy_own(const copy *c, const struct stat *old) {
  struct stat st;
  if (fstat(c->fd, &st)) return compact_fail(c->made, "look at", errno);
  if ((st.st_uid != old->st_uid || st.st_gid != old->st_gid) &&
      fchown(c->fd, old->st_uid, old->st_gid))
    return compact_fail(c->made, "give its owner", errno);
  if (fchmod(c->fd, old->st_mode & 07777))
    return compact_fail(c->made, "set the mode of", errno);
  return 0;
}

/* Ensures: 1. The data is on disk before it is published. 2. The name is on
   disk when this returns 0. 3. At any moment `data` is the old file or the new
   one. */
static int copy_publish(const copy *c, uint64_t *size) {
  struct stat st;
  if (fsync(c->fd) || fstat(c->fd, &st)) /* 1 */
    return compact_fail(c->made, "write", errno);
  if (rename(c->made, c->data)) /* 3 */
    return compact_fail(c->data, "replace", errno);
  int error = dir_sync(c->dir); /* 2 */
  if (error) return compact_fail(c->dir, "flush", error);
  *size = (uint64_t)st.st_size;
  return 0;
}

/* Closes the copy; removes it unless it was published. */
static void copy_close(copy *c, bool published) {
  if (c->fd >= 0) {
    close(c->fd);
    if (!published) unlink(c->made);
  }
  free(c->data);
  free(c->made);
}

/* ---- in its place ------------------------------------------------------- */

/* Locks the store; LOCKED when another process has it open. */
static int lock_alone(const char *path, int *out) {
  struct flock byte = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
  char *name = dir_file(path, "lock.mdb");
  if (!name)
    return fail(RESPOOL_NOMEM, "not enough memory to compact a store");
  int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, FILE_MODE);
  int rc = fd < 0 ? compact_fail(name, "open", errno) : 0;
  free(name);
  if (rc) return rc;
  if (!fcntl(fd, F_OFD_SETLK, &byte)) {
    *out = fd;
    return 0;
  }
  rc = errno;
  close(fd);
  if (rc == EAGAIN || rc == EACCES)
    return fail(RESPOOL_LOCKED, "another process has store \"%.160s\" open",
                path);
  return compact_fail(path, "lock", rc);
}

static int fill_alone(const copy *c) {
  lmdb_env e = {.path = (char *)(uintptr_t)c->dir};
  int rc = txn_env_open_alone(&e);
  if (rc) return rc;
  rc = txn_env_copy(&e, c->fd);
  txn_env_close(&e);
  return rc;
}

static int replace(const char *path, respool_compaction *out) {
  respool_compaction done = *out;
  struct stat old;
  copy c;
  int rc = copy_open(&c, path);
  if (!rc && stat(c.data, &old)) rc = compact_fail(c.data, "open", errno);
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
  int lock, alone = -1;
  int rc = store_lock_exclusive(path, &lock);
  if (rc) return rc;
  rc = lock_alone(path, &alone);
  if (!rc) {
    rc = replace(path, out);
    close(alone);
  }
  dir_unlock(lock);
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

static int data_size(const char *path, uint64_t *size) {
  struct stat st;
  char *data = dir_file(path, "data.mdb");
  int rc = !data || stat(data, &st) ? compact_fail(path, "look at", errno) : 0;
  free(data);
  if (!rc) *size = (uint64_t)st.st_size;
  return rc;
}

/* With the directory `to` locked, so that no process makes a store there. */
static int fill_dir(env *from, const char *path, const char *to,
                    respool_compaction *out) {
  respool_compaction done = *out;
  copy c;
  if (!dir_look(to))
    return fail(RESPOOL_EXISTS, "there is a store in \"%.160s\" already", to);
  int rc = copy_open(&c, to);
  if (!rc) rc = fill_from(&c, from);
  if (!rc) rc = data_size(path, &done.before);
  if (!rc) rc = copy_publish(&c, &done.after);
  copy_close(&c, !rc);
  if (!rc) *out = done;
  return rc;
}

static int compact_to(const char *path, const char *to,
                      respool_compaction *out) {
  respool_options o = RESPOOL_OPTIONS_INIT;
  env *from;
  int lock;
  o.read_only = 1;
  int rc = env_open(NULL, path, &o, NULL, &from);
  if (rc) return rc;
  rc = dir_make(to);
  if (!rc) rc = dir_lock(to, LOCK_EX | LOCK_NB, &lock);
  if (!rc) {
    rc = fill_dir(from, path, to, out);
    dir_unlock(lock);
  }
  env_close(from);
  return rc;
}

int lmdb_compact(const char *path, const char *to, respool_compaction *out) {
  return to ? compact_to(path, to, out) : compact_here(path, out);
}

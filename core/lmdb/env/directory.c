/* SPDX-License-Identifier: MIT */
/*
 * The directory of a store: finding and making it, making its entries
 * durable, and its lock, which is held while the store is opened and while its
 * data file is replaced. The lock is flock's on the directory: it needs no
 * file and no right to write, and ends with the process.
 */
#include "lmdb/env/directory.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define DIR_MODE 0750

int dir_fail(const char *path, int error) {
  int code = error == ENOSPC || error == EDQUOT ? RESPOOL_NOSPACE
             : error == ENOMEM ? RESPOOL_NOMEM : RESPOOL_IO;
  return fail(code, "cannot open store \"%.160s\": %s", path,
              strerror(error));
}

/* A new directory entry is durable once its parent is. */
int dir_sync(const char *path) {
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return errno;
  int error = fsync(fd) ? errno : 0;
  close(fd);
  return error;
}

static void sync_parent(const char *path) {
  char *copy = strdup(path);
  if (!copy) return;
  char *slash = strrchr(copy, '/');
  if (slash) slash[slash == copy] = '\0';
  (void)dir_sync(slash ? copy : ".");
  free(copy);
}

char *dir_file(const char *path, const char *name) {
  char *file;
  return asprintf(&file, "%s/%s", path, name) < 0 ? NULL : file;
}

int dir_look(const char *path) {
  struct stat st;
  char *file = dir_file(path, "data.mdb");
  int error = !file ? ENOMEM : stat(file, &st) ? errno : 0;
  if (!error && st.st_size == 0) error = ENODATA;
  free(file);
  return error;
}

static int dir_emptied(const char *path) {
  return fail(RESPOOL_CORRUPT, "the data file of store \"%.160s\" is empty",
              path);
}

int dir_make(const char *path) {
  if (mkdir(path, DIR_MODE))
    return errno == EEXIST ? 0 : dir_fail(path, errno);
  sync_parent(path);
  return 0;
}

int dir_find(const char *path, bool create, struct stat *st) {
  if (stat(path, st) && errno == ENOENT) {
    if (!create)
      return fail(RESPOOL_NOT_FOUND, "there is no store \"%.160s\"", path);
    int rc = dir_make(path);
    if (rc) return rc;
  }
  if (stat(path, st)) return dir_fail(path, errno);
  if (!S_ISDIR(st->st_mode)) return dir_fail(path, ENOTDIR);
  int error = dir_look(path);
  if (error == ENODATA) return dir_emptied(path);
  if (!create && error)
    return fail(RESPOOL_NOT_FOUND, "there is no store in \"%.160s\"", path);
  return 0;
}

/* ---- the lock ----------------------------------------------------------- */

int dir_lock(const char *path, int how, int *lock) {
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc;
  if (fd < 0) return dir_fail(path, errno);
  do
    rc = flock(fd, how);
  while (rc && errno == EINTR);
  if (!rc) {
    *lock = fd;
    return 0;
  }
  rc = errno;
  close(fd);
  if (rc == EWOULDBLOCK)
    return fail(RESPOOL_LOCKED, "store \"%.160s\" is being opened or "
                "compacted by another", path);
  return dir_fail(path, rc);
}

/* Unlocks first: a child that another thread forked still has the descriptor.
   */
void dir_unlock(int lock) {
  flock(lock, LOCK_UN);
  close(lock);
}

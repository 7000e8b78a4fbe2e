/* SPDX-License-Identifier: MIT */
/*
 * Replacing a store's data file; see replacement.h.
 *
 * A process that has a store open holds a shared lock on byte 0 of LMDB's lock
 * file; one that opens a store first locks its directory. With the directory
 * and that byte locked by us no process has the store open or can open it. The
 * number of the last commit in the lock file is then wrong; but the first
 * process to open a store writes the lock file anew, and the next one to open
 * this store is the first.
 *
 * The lock belongs to the open file, not to the process (F_OFD_SETLK): closing
 * another descriptor of the file does not lose it.
 */
#include "lmdb/env/replacement.h"

#include "base/fault.h"
#include "base/file.h"
#include "lmdb/env/directory.h"
#include "lmdb/env/registry.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int replacement_fail(const char *path, const char *what, int error) {
  int code = error == ENOSPC || error == EDQUOT ? RESPOOL_NOSPACE
                                                : RESPOOL_IO;
  return fail(code, "cannot %s '%.160s': %s", what, path,
              file_error(error));
}

static int made_fail(const replacement *r, const char *what) {
  int error = errno;
  char path[FAIL_LINE];
  snprintf(path, sizeof path, "%.150s/%.15s", r->dir, r->name);
  return replacement_fail(path, what, error);
}

int data_look(const char *path, int dirfd, struct stat *st) {
  return file_look(dirfd, DATA_NAME, st) ? replacement_fail(path, "read", errno)
                                         : 0;
}

/* ---- the file: open, fill, publish, close ------------------------------- */

/* It is no more readable than the old file. */
static int make(replacement *r, const struct stat *old) {
  (void)unlinkat(r->dirfd, r->name, 0); /* a leftover */
  r->fd = file_make(r->dirfd, r->name, old->st_mode & FILE_MODE);
  return r->fd < 0 ? made_fail(r, "make") : 0;
}

/* Gives it the owner and mode of the old file. It was made where nothing
   was: it is ours. */
static int own(const replacement *r, const struct stat *old) {
  struct stat st;
  if (fstat(r->fd, &st)) return made_fail(r, "look at");
  if ((st.st_uid != old->st_uid || st.st_gid != old->st_gid) &&
      fchown(r->fd, old->st_uid, old->st_gid))
    return made_fail(r, "give its owner");
  if (fchmod(r->fd, old->st_mode & 0777))
    return made_fail(r, "set the mode of");
  return 0;
}

int replacement_open(replacement *r, const struct stat *old) {
  r->fd = -1;
  int rc = make(r, old);
  return rc ? rc : own(r, old);
}

int replacement_publish(const replacement *r, uint64_t *size) {
  struct stat st;
  if (fsync(r->fd) || fstat(r->fd, &st)) /* 1 */
    return made_fail(r, "write");
  FAULT_POINT("replacement whole");
  if (renameat(r->dirfd, r->name, r->dirfd, DATA_NAME)) /* 3 */
    return made_fail(r, "rename");
  FAULT_POINT("replacement named");
  if (fsync(r->dirfd)) return replacement_fail(r->dir, "flush", errno); /* 2 */
  *size = (uint64_t)st.st_size;
  return 0;
}

void replacement_close(replacement *r, bool published) {
  if (r->fd < 0) return;
  close(r->fd);
  if (!published) (void)unlinkat(r->dirfd, r->name, 0);
}

/* ---- being alone --------------------------------------------------------- */

/* Locks the store; LOCKED when another process has it open. */
static int lock_alone(const char *path, int dirfd, int *out) {
  struct flock byte = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
  int fd = file_open_or_make(dirfd, LOCK_NAME), rc;
  if (fd < 0) return replacement_fail(path, "open the lock file of", errno);
  if (!fcntl(fd, F_OFD_SETLK, &byte)) {
    *out = fd;
    return 0;
  }
  rc = errno;
  close(fd);
  if (rc == EAGAIN || rc == EACCES)
    return fail(RESPOOL_LOCKED, "another process has store '%.160s' open",
                path);
  return replacement_fail(path, "lock", rc);
}

int store_alone(const char *path,
                int (*work)(const char *path, int dirfd, void *arg),
                void *arg) {
  int dirfd, alone = -1;
  int rc = store_lock_exclusive(path, &dirfd);
  if (rc) return rc;
  rc = lock_alone(path, dirfd, &alone);
  if (!rc) {
    rc = work(path, dirfd, arg);
    close(alone);
  }
  dir_unlock(dirfd);
  close(dirfd);
  return rc;
}

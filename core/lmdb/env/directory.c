/* SPDX-License-Identifier: MIT */
/*
 * The directory of a store: finding and making it, making its entries
 * durable, and its lock, which is held while the store is opened and while its
 * data file is replaced. The lock is flock's on the directory: it needs no
 * file and no right to write, and ends with the process.
 */
#include "lmdb/env/directory.h"

#include "base/error.h"
#include "base/file.h"
#include "threads/wait.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

int dir_fail(const char *path, int error) {
  int code = error == ENOSPC || error == EDQUOT ? RESPOOL_NOSPACE
             : error == ENOMEM ? RESPOOL_NOMEM : RESPOOL_IO;
  if (error == EACCES)
    return fail(code, "cannot open store '%.160s': user %u has no permission",
                path, (unsigned)geteuid());
  return fail(code, "cannot open store '%.160s': %s", path,
              strerror(error));
}

static int file_fail(const char *path, int error) {
  if (error == ENODATA)
    return fail(RESPOOL_CORRUPT, "the data file of store '%.160s' is empty",
                path);
  if (error == EACCES) return dir_fail(path, error);
  return fail(RESPOOL_IO, "cannot open '%.160s/" DATA_NAME "': %s", path,
              file_error(error));
}

/* A new directory entry is durable once its parent is. */
static void sync_parent(const char *path) {
  char *copy = strdup(path);
  if (!copy) return;
  char *slash = strrchr(copy, '/');
  if (slash) slash[slash == copy] = '\0';
  int fd = open(slash ? copy : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd >= 0) {
    (void)fsync(fd);
    close(fd);
  }
  free(copy);
}

int dir_look(int dirfd) {
  struct stat st;
  if (file_look(dirfd, DATA_NAME, &st)) return errno;
  return st.st_size == 0 ? ENODATA : 0;
}

int dir_make(const char *path, mode_t data) {
  if (mkdir(path, data & 0040 ? 0750 : 0700))
    return errno == EEXIST ? 0 : dir_fail(path, errno);
  sync_parent(path);
  return 0;
}

/* A descriptor, or -1 with errno. */
static int open_dir(const char *path) {
  return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int find(const char *path, bool create, int fd) {
  int error = dir_look(fd);
  if (!error || (create && error == ENOENT)) return 0;
  if (error == ENOENT)
    return fail(RESPOOL_NOT_FOUND, "there is no store in '%.160s'", path);
  return file_fail(path, error);
}

int dir_open(const char *path, bool create, int *dirfd) {
  int fd = open_dir(path);
  if (fd < 0 && errno == ENOENT) {
    if (!create)
      return fail(RESPOOL_NOT_FOUND, "there is no store '%.160s'", path);
    int rc = dir_make(path, FILE_MODE);
    if (rc) return rc;
    fd = open_dir(path);
  }
  if (fd < 0) return dir_fail(path, errno);
  int rc = find(path, create, fd);
  if (rc)
    close(fd);
  else
    *dirfd = fd;
  return rc;
}

void dir_place(int dirfd, const char *path, char place[PLACE_MAX]) {
  struct stat at, dir;
  snprintf(place, PLACE_MAX, "/proc/self/fd/%d", dirfd);
  if (!fstat(dirfd, &dir) && !stat(place, &at) && at.st_ino == dir.st_ino &&
      at.st_dev == dir.st_dev)
    return;
  snprintf(place, PLACE_MAX, "%s", path);
}

/* ---- the lock ----------------------------------------------------------- */

/* The process that holds the lock, by the kernel's list; 0 if unknown. */
static int lock_holder(int dirfd) {
  struct stat st;
  char line[160];
  int pid = 0, found = 0;
  FILE *f = fstat(dirfd, &st) ? NULL : fopen("/proc/locks", "re");
  while (f && !found && fgets(line, sizeof line, f)) {
    unsigned long inode;
    if (sscanf(line, "%*d: FLOCK %*s %*s %d %*x:%*x:%lu", &pid, &inode) == 2)
      found = inode == st.st_ino;
  }
  if (f) fclose(f);
  return found ? pid : 0;
}

#define NAP 5 /* ms */

/* Those who open a store hold the lock for a moment only, so this looks again
   and again; a compaction holds it longer. */
static int wait_for_lock(int dirfd, const char *path) {
  static const struct timespec nap = {0, NAP * 1000000L};
  char whom[WHOM_MAX];
  for (int64_t ms = NAP; flock(dirfd, LOCK_EX | LOCK_NB); ms += NAP) {
    if (errno != EWOULDBLOCK && errno != EINTR) return dir_fail(path, errno);
    nanosleep(&nap, NULL);
    if (ms % WAIT_STEP) continue;
    wait_name(lock_holder(dirfd), whom);
    if (!wait_goes_on(ms, whom)) return wait_fail(path, whom);
  }
  return 0;
}

int dir_lock(int dirfd, const char *path, int how) {
  if (!(how & LOCK_NB)) return wait_for_lock(dirfd, path);
  if (!flock(dirfd, how)) return 0;
  if (errno == EWOULDBLOCK)
    return fail(RESPOOL_LOCKED, "store '%.160s' is being opened or "
                "compacted by another", path);
  return dir_fail(path, errno);
}

/* Not by closing it: a child that another thread has forked still has the
   descriptor. */
void dir_unlock(int dirfd) {
  flock(dirfd, LOCK_UN);
}

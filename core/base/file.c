/* SPDX-License-Identifier: MIT */
/*
 * Opening files of our own; see file.h, whose numbers are cited.
 */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <unistd.h>

/* ---- rights -------------------------------------------------------------- */

/* A process that changes its rights can no longer be dumped or traced, which
   is not meant here. */
static void change_rights(uid_t uid, gid_t gid) {
  int dumpable = prctl(PR_GET_DUMPABLE);
  setfsgid(gid);
  setfsuid(uid);
  if (dumpable == 1) (void)prctl(PR_SET_DUMPABLE, 1);
}

/* In a container root may lack the right to change: then 1 and 2 remain. */
void rights_take(int dirfd, rights *r) {
  struct stat dir;
  *r = (rights){false, (uid_t)setfsuid((uid_t)-1), (gid_t)setfsgid((gid_t)-1)};
  if (r->uid != 0 || fstat(dirfd, &dir) || dir.st_uid == 0) return;
  change_rights(dir.st_uid, dir.st_gid);
  r->taken = true;
}

void rights_return(const rights *r) {
  int error = errno;
  if (r->taken) change_rights(r->uid, r->gid);
  errno = error;
}

/* ---- files --------------------------------------------------------------- */

const char *file_error(int error) {
  switch (error) {
    case ELOOP: return "it is a symbolic link";
    case EMLINK: return "it has another name, too (a hard link)";
    case ENODEV: return "it is not a plain file";
    case EPERM: return "another user has made it";
    default: return strerror(error);
  }
}

static int refuse(int error) {
  errno = error;
  return -1;
}

/* 2 */
static int check(int dirfd, const struct stat *st) {
  struct stat dir;
  if (S_ISLNK(st->st_mode)) return refuse(ELOOP);
  if (!S_ISREG(st->st_mode)) return refuse(ENODEV);
  if (st->st_nlink > 1) return refuse(EMLINK);
  if (dirfd == AT_FDCWD || fstat(dirfd, &dir) || !(dir.st_mode & S_IWOTH))
    return 0;
  if (st->st_uid == geteuid() || !st->st_uid || st->st_uid == dir.st_uid)
    return 0;
  return refuse(EPERM);
}

int file_look(int dirfd, const char *name, struct stat *st) {
  if (fstatat(dirfd, name, st, AT_SYMLINK_NOFOLLOW)) return -1;
  return check(dirfd, st);
}

/* Where the kernel or a sandbox knows no statx. */
static int identify_fully(int fd, const char *name, file_identity *f) {
  struct stat st;
  if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) return -1;
  *f = (file_identity){st.st_ino, st.st_nlink, (uint64_t)st.st_blocks * 512};
  return 0;
}

int file_identify(int fd, const char *name, file_identity *f) {
  struct statx st;
  if (!statx(fd, name, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH,
             STATX_INO | STATX_NLINK | STATX_BLOCKS, &st)) {
    *f = (file_identity){st.stx_ino, st.stx_nlink, st.stx_blocks * 512};
    return 0;
  }
  return errno == ENOSYS || errno == EPERM ? identify_fully(fd, name, f) : -1;
}

/* Looks first: to open a device may do something. */
static int open_checked(int dirfd, const char *name, int access) {
  struct stat st;
  if (file_look(dirfd, name, &st)) return -1;
  int fd = openat(dirfd, name, access | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK |
                  O_NOCTTY);
  if (fd < 0 || (!fstat(fd, &st) && !check(dirfd, &st))) return fd;
  int error = errno;
  close(fd);
  return refuse(error);
}

int file_open(int dirfd, const char *name, int access) {
  rights r;
  rights_take(dirfd, &r);
  int fd = open_checked(dirfd, name, access);
  rights_return(&r);
  return fd;
}

int file_make(int dirfd, const char *name, mode_t mode) {
  rights r;
  rights_take(dirfd, &r);
  int fd = openat(dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC |
                  O_NOFOLLOW, mode);
  rights_return(&r);
  return fd;
}

int file_open_or_make(int dirfd, const char *name) {
  for (;;) {
    int fd = file_open(dirfd, name, O_RDWR);
    if (fd >= 0 || errno != ENOENT) return fd;
    fd = file_make(dirfd, name, FILE_MODE);
    if (fd >= 0 || errno != EEXIST) return fd;
  }
}

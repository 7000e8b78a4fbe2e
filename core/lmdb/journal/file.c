/* SPDX-License-Identifier: MIT */
/*
 * Files and byte locks; see file.h.
 */
#include "lmdb/journal/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MODE 0640

int file_make(int dirfd, const char *name) {
  struct stat dir;
  int fd = openat(dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC |
                  O_NOFOLLOW, FILE_MODE);
  if (fd >= 0 && geteuid() == 0 && !fstat(dirfd, &dir))
    (void)!fchown(fd, dir.st_uid, dir.st_gid);
  return fd;
}

int file_open(int dirfd, const char *name, bool make) {
  for (;;) {
    int fd = openat(dirfd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0 || errno != ENOENT || !make) return fd;
    fd = file_make(dirfd, name);
    if (fd >= 0 || errno != EEXIST) return fd;
  }
}

int byte_lock(int fd, int type, int byte, bool wait) {
  struct flock l = {.l_type = (short)type, .l_whence = SEEK_SET,
                    .l_start = byte, .l_len = 1};
  int rc;
  do
    rc = fcntl(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &l);
  while (rc < 0 && errno == EINTR);
  return rc;
}

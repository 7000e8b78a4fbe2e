/* SPDX-License-Identifier: MIT */
/*
 * Byte locks; see file.h.
 */
#include "lmdb/journal/files/byte_lock.h"

#include <errno.h>
#include <fcntl.h>

int byte_lock(int fd, int type, int byte) {
  struct flock l = {.l_type = (short)type, .l_whence = SEEK_SET,
                    .l_start = byte, .l_len = 1};
  int rc;
  do
    rc = fcntl(fd, F_OFD_SETLK, &l);
  while (rc < 0 && errno == EINTR);
  return rc;
}

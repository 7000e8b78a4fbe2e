/* SPDX-License-Identifier: MIT */
/*
 * The locks of the control block; see lock.h and control.h. Byte 0 tells who
 * is here: all hold it shared, the first exclusively until the block is built.
 */
#include "lmdb/journal/lock.h"

#include <errno.h>
#include <fcntl.h>

#include "lmdb/journal/file.h"

#define FIRST_BYTE 16

static int enter(journal *j, int which) {
  return (int)atomic_exchange(&j->c->dirty[which], 1);
}

int lock_take(journal *j, int which) {
  pthread_mutex_lock(&j->lock[which]);
  if (!byte_lock(j->cfd, F_WRLCK, FIRST_BYTE + which, true))
    return enter(j, which) != 0;
  int error = errno;
  pthread_mutex_unlock(&j->lock[which]);
  errno = error;
  return -1;
}

bool lock_try(journal *j, int which) {
  if (pthread_mutex_trylock(&j->lock[which])) return false;
  if (!byte_lock(j->cfd, F_WRLCK, FIRST_BYTE + which, false)) {
    (void)enter(j, which);
    return true;
  }
  pthread_mutex_unlock(&j->lock[which]);
  return false;
}

void lock_abandon(journal *j, int which) {
  (void)byte_lock(j->cfd, F_UNLCK, FIRST_BYTE + which, false);
  pthread_mutex_unlock(&j->lock[which]);
}

void lock_leave(journal *j, int which) {
  atomic_store(&j->c->dirty[which], 0);
  lock_abandon(j, which);
}

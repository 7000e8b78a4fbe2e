/* SPDX-License-Identifier: MIT */
/*
 * Turns; see turn.h. A wait in the kernel for a file lock has no time limit
 * and, with the usual handlers, goes on after a signal. So where the lock is
 * not free a thread waits for it, on behalf of the process, which owns it; the
 * one that wants it waits for the thread, and may give up. Then the thread
 * lets go of the lock when it comes. Invariants:
 *
 *   1. The process tries for the lock only while no thread waits for it: the
 *      kernel would give it to both.
 *   2. The lock is the taker's from TURN_HELD, seen with the mutex held.
 */
#include "lmdb/env/txn/turn.h"

#include <errno.h>
#include <fcntl.h>

#include "base/clock.h"
#include "threads/thread.h"
#include "threads/wait.h"

/* Returns 0 or errno. Where locks are not supported, or the kernel reports a
   deadlock between stores where there is none, LMDB's mutex still keeps writers
   apart. */
static int lock(int fd, short type, int how) {
  struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_len = 1};
  int rc;
  do
    rc = fcntl(fd, how, &l);
  while (rc && errno == EINTR);
  return rc ? errno : 0;
}

/* Whether another process holds the lock, and which one, or 0. */
static bool is_taken(int fd, int *pid) {
  struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
  if (fcntl(fd, F_GETLK, &l) || l.l_type == F_UNLCK) return false;
  *pid = l.l_pid;
  return true;
}

bool turn_is_taken(int fd) {
  int pid;
  return is_taken(fd, &pid);
}

static bool is_held(int error) {
  return error == EAGAIN || error == EACCES;
}

/* ---- the thread ---------------------------------------------------------- */

/* It may be cancelled only here. */
static void wait_in_kernel(int fd) {
  int state;
  pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
  (void)lock(fd, F_WRLCK, F_SETLKW);
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
}

static void *wait_main(void *arg) {
  turns *u = arg;
  int state;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  pthread_mutex_lock(&u->lock);
  while (!u->stopping) {
    if (u->state != TURN_WANTED) {
      pthread_cond_wait(&u->changed, &u->lock);
      continue;
    }
    pthread_mutex_unlock(&u->lock);
    wait_in_kernel(u->fd);
    pthread_mutex_lock(&u->lock);
    if (u->state == TURN_WANTED)
      u->state = TURN_HELD;
    else { /* nobody wants it any more */
      (void)lock(u->fd, F_UNLCK, F_SETLK);
      u->state = TURN_FREE;
    }
    pthread_cond_broadcast(&u->changed);
  }
  pthread_mutex_unlock(&u->lock);
  return NULL;
}

static bool have_thread(turns *u) {
  if (!u->threaded) u->threaded = !thread_start(&u->thread, wait_main, u);
  return u->threaded;
}

/* ---- the taker ----------------------------------------------------------- */

static bool goes_on(const turns *u, env *e, int64_t ms, char whom[WHOM_MAX]) {
  int pid = 0;
  (void)is_taken(u->fd, &pid);
  wait_name(pid, whom);
  e->waits_for = pid > 0 ? pid : -1;
  return e->goes_on ? e->goes_on(e, ms, whom) : wait_goes_on(ms, whom);
}

/* With the mutex held, which is not held while others are asked. */
static bool wait_for_thread(turns *u, env *e, char whom[WHOM_MAX]) {
  int64_t from = clock_mono(), asked = from;
  bool on = true;
  while (u->state != TURN_HELD && on) {
    struct timespec until;
    clock_deadline(&until, WAIT_STEP);
    pthread_cond_timedwait(&u->changed, &u->lock, &until);
    int64_t now = clock_mono();
    if (u->state == TURN_HELD || now - asked < WAIT_STEP) continue;
    pthread_mutex_unlock(&u->lock);
    on = goes_on(u, e, now - from, whom);
    asked = now;
    pthread_mutex_lock(&u->lock);
  }
  return u->state == TURN_HELD;
}

/* Without a thread for it the wait cannot be given up. */
static bool take_later(turns *u, env *e, char whom[WHOM_MAX]) {
  if (!have_thread(u)) {
    (void)lock(u->fd, F_WRLCK, F_SETLKW);
    return true;
  }
  u->state = TURN_WANTED;
  pthread_cond_broadcast(&u->changed);
  bool taken = wait_for_thread(u, e, whom);
  u->state = taken ? TURN_FREE : TURN_UNWANTED;
  e->waits_for = 0;
  return taken;
}

int turn_take(turns *u, env *e, int fd, const char *path) {
  char whom[WHOM_MAX] = "";
  pthread_mutex_lock(&u->lock);
  u->fd = fd;
  bool taken = u->state == TURN_FREE && !is_held(lock(fd, F_WRLCK, F_SETLK));
  if (!taken) taken = take_later(u, e, whom);
  pthread_mutex_unlock(&u->lock);
  if (taken) return 0;
  (void)wait_fail(path, whom);
  return TURN_REFUSED;
}

void turn_end(turns *u) {
  pthread_mutex_lock(&u->lock);
  (void)lock(u->fd, F_UNLCK, F_SETLK);
  pthread_mutex_unlock(&u->lock);
}

/* ---- the whole ----------------------------------------------------------- */

void turn_init(turns *u) {
  pthread_mutex_init(&u->lock, NULL);
  cond_init_monotonic(&u->changed);
}

void turn_destroy(turns *u) {
  pthread_mutex_destroy(&u->lock);
  pthread_cond_destroy(&u->changed);
}

void turn_close(turns *u) {
  if (!u->threaded) return;
  pthread_mutex_lock(&u->lock);
  u->stopping = true;
  pthread_cond_broadcast(&u->changed);
  pthread_mutex_unlock(&u->lock);
  pthread_cancel(u->thread);
  pthread_join(u->thread, NULL);
  u->threaded = u->stopping = false;
  u->state = TURN_FREE;
}

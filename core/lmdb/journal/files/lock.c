/* SPDX-License-Identifier: MIT */
/*
 * The locks of the control block; see lock.h and control.h. Byte 0 tells who
 * is here: all hold it shared, the first exclusively until the block is built.
 *
 * A wait asks every WAIT_STEP milliseconds whether it is to go on: the holder
 * may be stopped (SIGSTOP). A holder that dies leaves its byte, found by the
 * next try.
 */
#include "lmdb/journal/files/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "lmdb/journal/files/byte_lock.h"
#include "threads/futex.h"
#include "threads/wait.h"

#define FIRST_BYTE 16
#define SLICE_MS 10

/* ---- a wait -------------------------------------------------------------- */

typedef struct waiting {
  const journal *j;
  int64_t from, asked, within; /* 0: as long as it is told to go on */
  bool told;
} waiting;

static bool goes_on(waiting *p, int pid) {
  const journal_waits *w = &p->j->waits;
  int64_t now = clock_mono();
  if (p->within) return now - p->from < p->within;
  if (!w->goes_on || now - p->asked < WAIT_STEP) return true;
  p->asked = now;
  p->told = true;
  return w->goes_on(w->arg, now - p->from, pid);
}

static int holder(const journal *j, int which) {
  return (int)atomic_load(&j->c->holder[which]);
}

static void waiting_end(const waiting *p) {
  if (p->told && p->j->waits.over) p->j->waits.over(p->j->waits.arg);
}

/* ---- the two halves of a lock -------------------------------------------- */

static bool is_held(int error) {
  return error == EAGAIN || error == EACCES;
}

/* Another thread of this process may wait for a process that is stopped. */
static int take_mutex(journal *j, int which, waiting *p) {
  int64_t step = p->within ? p->within : WAIT_STEP;
  if (!pthread_mutex_trylock(&j->lock[which])) return 0;
  for (;;) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += step * 1000000;
    if (until.tv_nsec >= 1000000000) {
      until.tv_nsec -= 1000000000;
      until.tv_sec++;
    }
    if (!pthread_mutex_timedlock(&j->lock[which], &until)) return 0;
    if (!goes_on(p, holder(j, which))) return RESPOOL_LOCKED;
  }
}

static int cannot(void) {
  return fail(RESPOOL_IO, "cannot lock the journal's control block");
}

static int take_byte(const journal *j, int which, waiting *p) {
  control *c = j->c;
  for (;;) {
    uint32_t seen = atomic_load(&c->lock_word[which]);
    if (!byte_lock(j->cfd, F_WRLCK, FIRST_BYTE + which)) return 0;
    if (!is_held(errno)) return cannot();
    atomic_fetch_add(&c->lock_waiters[which], 1);
    futex_wait(&c->lock_word[which], FUTEX_SHARED, seen, FUTEX_ANY, SLICE_MS);
    atomic_fetch_sub(&c->lock_waiters[which], 1);
    if (!goes_on(p, holder(j, which))) return RESPOOL_LOCKED;
  }
}

static int enter(const journal *j, int which) {
  atomic_store(&j->c->holder[which], j->pid);
  return (int)atomic_exchange(&j->c->dirty[which], 1);
}

static int take(journal *j, int which, int64_t within, bool *died) {
  int64_t now = clock_mono();
  waiting p = {j, now, now, within, false};
  int rc = take_mutex(j, which, &p);
  if (!rc && (rc = take_byte(j, which, &p)) != 0)
    pthread_mutex_unlock(&j->lock[which]);
  waiting_end(&p);
  if (!rc) *died = enter(j, which);
  return rc;
}

int lock_take(journal *j, int which, bool *died) {
  return take(j, which, 0, died);
}

int lock_take_within(journal *j, int which, int64_t ms, bool *died) {
  return take(j, which, ms, died);
}

bool lock_try(journal *j, int which, bool *died) {
  if (pthread_mutex_trylock(&j->lock[which])) return false;
  if (!byte_lock(j->cfd, F_WRLCK, FIRST_BYTE + which)) {
    *died = enter(j, which);
    return true;
  }
  pthread_mutex_unlock(&j->lock[which]);
  return false;
}

void lock_abandon(journal *j, int which) {
  control *c = j->c;
  (void)byte_lock(j->cfd, F_UNLCK, FIRST_BYTE + which);
  atomic_fetch_add(&c->lock_word[which], 1);
  if (atomic_load(&c->lock_waiters[which]))
    futex_wake(&c->lock_word[which], FUTEX_SHARED, FUTEX_ANY, 1);
  pthread_mutex_unlock(&j->lock[which]);
}

void lock_leave(journal *j, int which) {
  atomic_store(&j->c->dirty[which], 0);
  lock_abandon(j, which);
}

/* ---- who is here --------------------------------------------------------- */

/* Is the block built by others? Then its byte stays locked, shared. */
static int look_here(const journal *j, bool *built) {
  uint32_t magic = 0;
  if (byte_lock(j->cfd, F_RDLCK, 0)) return is_held(errno) ? 0 : cannot();
  *built = pread(j->cfd, &magic, sizeof magic, 0) == sizeof magic && magic;
  if (!*built) (void)byte_lock(j->cfd, F_UNLCK, 0);
  return 0;
}

int lock_here(journal *j, bool *first) {
  static const struct timespec pause = {0, 1000000};
  int64_t now = clock_mono();
  waiting p = {j, now, now, 0, false};
  bool built = false;
  int rc = 0;
  while (!rc) {
    *first = !byte_lock(j->cfd, F_WRLCK, 0);
    if (!*first) rc = look_here(j, &built);
    if (rc || *first || built) break;
    nanosleep(&pause, NULL);
    if (!goes_on(&p, 0)) rc = RESPOOL_LOCKED;
  }
  waiting_end(&p);
  return rc;
}

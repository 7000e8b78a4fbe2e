/* SPDX-License-Identifier: MIT */
/*
 * Opening and closing a journal. The first to come decides what the log goes
 * on from; the file itself is made by the first push that wants it, so that a
 * store without small pushes never has one.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fault.h"
#include "lmdb/journal/files/lock.h"
#include "lmdb/journal/files/scan.h"
#include "lmdb/journal/files/state.h"
#include "lmdb/journal/open.h"

#define TRY_EACH 16 /* pushes that find no file */

static journal *new_journal(const journal_options *o) {
  journal *j = calloc(1, sizeof *j);
  if (!j) return NULL;
  j->record = malloc(JOURNAL_PUSH + PAGE);
  if (!j->record) {
    free(j);
    return NULL;
  }
  j->dirfd = j->cfd = j->fd = -1;
  j->want_half = o->half ? o->half : JOURNAL_HALF;
  j->waits = o->waits;
  j->pid = (uint32_t)getpid();
  for (int i = 0; i < LOCKS; i++) pthread_mutex_init(&j->lock[i], NULL);
  pthread_mutex_init(&j->reopening, NULL);
  return j;
}

int journal_open(int dirfd, const journal_options *o, journal **out) {
  if (o->half && (o->half % PAGE || o->half < 16 * PAGE ||
                  o->half > UINT32_MAX / 2))
    return fail(RESPOOL_INVALID, "half: no size of a journal");
  journal *j = new_journal(o);
  if (!j) return fail(RESPOOL_NOMEM, "not enough memory for the journal");
  j->dirfd = fcntl(dirfd, F_DUPFD_CLOEXEC, 0);
  int rc = j->dirfd < 0 ? fail(RESPOOL_IO, "cannot open the journal: %s",
                               strerror(errno)) : control_open(j);
  if (!rc) rc = lock_here(j, &j->first);
  if (!rc) rc = control_map(j);
  if (rc)
    journal_close(j);
  else
    *out = j;
  return rc;
}

bool journal_is_first(const journal *j) {
  return j->first;
}

void journal_close(journal *j) {
  if (!j) return;
  if (!j->forked) {
    control_close(j);
    for (int i = 0; i < LOCKS; i++) pthread_mutex_destroy(&j->lock[i]);
    pthread_mutex_destroy(&j->reopening);
  }
  free(j->record);
  free(j);
}

/* ---- where the log goes on ----------------------------------------------- */

/* No file: a log begins in the half behind what LMDB has applied of a former
   one. */
static point without_file(const journal *j, const journal_applied *a) {
  uint64_t pos = a->seed ? (a->pos / j->want_half + 1) * j->want_half : 0;
  return (point){pos, 0};
}

/* A file that LMDB has applied nothing of: one that was made since. */
static int with_file(const head *h, const journal_applied *a, point *from) {
  *from = (point){a->pos, a->chain};
  if (a->seed == h->seed && a->pos >= h->start) return 0;
  *from = (point){h->start, h->seed};
  if (a->seed != h->seed && a->pos <= h->start) return 0;
  return fail(RESPOOL_CORRUPT, "the journal is not the one that the data "
              "file has applied; see respool repair");
}

static int start_first(journal *j, const uint8_t store[16],
                       const journal_applied *a) {
  control *c = j->c;
  head h = {.half = j->want_half};
  point from = without_file(j, a);
  if (memcmp(c->store, store, sizeof c->store))
    c->layout = 0; /* nothing in the block is this store's */
  memcpy(c->store, store, sizeof c->store);
  int rc = log_open(j->dirfd, store, &j->fd, &h);
  bool made = rc == 0;
  if (made)
    rc = with_file(&h, a, &from);
  else if (rc == RESPOOL_NOT_FOUND)
    rc = 0;
  if (rc) return rc;
  if (c->half != h.half || c->seed != h.seed)
    c->layout = 0; /* its leases are of another file */
  c->half = h.half;
  c->start = h.start;
  c->seed = h.seed;
  rc = scan_first(j, from);
  if (rc) return rc;
  atomic_store(&c->made, made ? MADE_YES : MADE_NO);
  atomic_store(&c->generation, made);
  atomic_store(&j->generation, made);
  return control_publish(j);
}

int journal_start(journal *j, const uint8_t store[16],
                  const journal_applied *a) {
  int rc = 0;
  if (j->first)
    rc = start_first(j, store, a);
  else if (memcmp(j->c->store, store, sizeof j->c->store))
    rc = fail(RESPOOL_BUSY, "another store was open in this directory, and "
              "still is: close it everywhere, and open it again");
  if (!rc) memcpy(j->store, store, sizeof j->store);
  if (!rc) j->started = true;
  return rc;
}

/* ---- making the file ----------------------------------------------------- */

/* Nothing lives in the log that goes on in a new file. Its parts are set so
   that a process that dies in between leaves no journal, to be made again. */
static void begin_file(control *c, uint64_t start) {
  uint32_t other = (atomic_load(&c->which) & 1) ^ 1;
  c->current = (point){start, c->seed};
  c->chain = c->seed;
  c->applied[other] = c->current;
  atomic_store(&c->which, other);
  atomic_store(&c->applied_pos, start);
  atomic_fetch_add(&c->generation, 1);
  atomic_store(&c->tail, start);
  atomic_store(&c->flushed, start);
  atomic_store(&c->freed, start);
  atomic_store(&c->failed, 0);
  FAULT_POINT("journal begins");
  atomic_store(&c->made, MADE_YES);
}

/* Requires the write lock. */
static int make(journal *j) {
  control *c = j->c;
  uint64_t h = c->half, start = (atomic_load(&c->tail) + h - 1) / h * h;
  atomic_store(&c->made, MADE_NO);
  if (atomic_load(&c->failed)) /* what was not made void must not come back */
    (void)log_remove(j);
  int rc = log_make(j, start);
  if (rc == RESPOOL_NOSPACE) atomic_store(&c->made, MADE_CANNOT);
  if (!rc) rc = state_enter(j, true);
  if (rc) return rc;
  begin_file(c, start);
  state_leave(j);
  return 0;
}

/* Where there was no room for the file some later pushes try again, once the
   disk has room for two. */
static bool may_be_made(journal *j, uint32_t made) {
  struct statvfs v;
  if (made != MADE_CANNOT) return made == MADE_NO;
  if (atomic_fetch_add(&j->turned_away, 1) % TRY_EACH || fstatvfs(j->dirfd, &v))
    return false;
  return (uint64_t)v.f_bavail * v.f_frsize > 2 * (PAGE + 2 * j->c->half);
}

int open_made(journal *j) {
  int rc = 0;
  uint32_t made = atomic_load(&j->c->made);
  if (may_be_made(j, made)) { /* whoever writes now is not waited for here */
    bool died;
    if (!lock_try(j, WRITE_LOCK, &died)) return JOURNAL_ELSEWHERE;
    if (atomic_load(&j->c->made) != MADE_YES) rc = make(j);
    made = atomic_load(&j->c->made);
    journal_leave(j);
  }
  if (made == MADE_CANNOT) return JOURNAL_ELSEWHERE;
  return rc;
}

int journal_renew(journal *j) {
  journal_state now;
  int rc = journal_now(j, &now);
  if (rc) return rc;
  if (now.live || now.freed != now.tail)
    return fail(RESPOOL_BUSY, "the journal holds what is not in the data "
                "file yet");
  if (now.made && !now.failed) return 0;
  return make(j);
}

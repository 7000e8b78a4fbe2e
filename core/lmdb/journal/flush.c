/* SPDX-License-Identifier: MIT */
/*
 * The flush that all of a moment share. A flusher reads the tail first: all
 * before it is written. A process that finds another one flushing waits
 * for it, but not for long, since it may have died; in the end it flushes as
 * well, since the other may be stopped: two flushes at once do no harm.
 */
#include "lmdb/journal/flush.h"

#include <limits.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "lmdb/journal/files/lock.h"
#include "lmdb/journal/files/log.h"
#include "lmdb/journal/files/state.h"
#include "threads/futex.h"

#define FLUSHER_MS 20  /* it may have died */
#define STOPPED_MS 100 /* it may be stopped, and flushes may be slow */

static bool is_safe(const control *c, uint64_t end) {
  return atomic_load(&c->flushed) >= end || atomic_load(&c->freed) >= end;
}

void flush_raise(_Atomic uint64_t *position, uint64_t to) {
  uint64_t at = atomic_load(position);
  while (at < to && !atomic_compare_exchange_weak(position, &at, to))
    ;
}

/* A flush that failed is reported to its caller alone, which died before it
   could say so: no other process may ever learn of it. So its pages are written
   again; with the state lock, as halves change meanwhile. */
static int write_again(journal *j) {
  control *c = j->c;
  int rc = state_enter(j, true);
  if (!rc) {
    uint64_t flushed = atomic_load(&c->flushed), freed = atomic_load(&c->freed);
    rc = log_write_again(j, flushed > freed ? flushed : freed);
    state_leave(j);
  }
  return rc ? fail(RESPOOL_UNKNOWN_OUTCOME, "a process died as it flushed the "
                   "journal, which cannot be written again") : 0;
}

/* With the flush lock, or in place of its holder, or after one that `died`. The
   tail is read before the file is known to be that of the block: what lies
   before it is in this file, or applied. */
static int flush(journal *j, uint64_t end, bool died) {
  control *c = j->c;
  if (!died && (is_safe(c, end) || atomic_load(&c->failed))) return 0;
  uint64_t upto = atomic_load(&c->tail);
  int rc = log_reopen(j);
  if (!rc && died) rc = write_again(j);
  if (rc) return rc;
  FAULT_POINT("journal flush begun");
  if (!FAULT_WRONG("no flush") && fdatasync(j->fd))
    atomic_store(&c->failed, 1);
  else
    flush_raise(&c->flushed, upto);
  FAULT_POINT("journal flushed");
  atomic_fetch_add(&c->flushes, 1);
  return 0;
}

void flush_wake(control *c) {
  atomic_fetch_add(&c->flush_word, 1);
  if (atomic_load(&c->flush_waiters))
    futex_wake(&c->flush_word, FUTEX_SHARED, FUTEX_ANY, INT_MAX);
}

static void wait_for_flush(control *c, uint32_t seen) {
  atomic_fetch_add(&c->flush_waiters, 1);
  futex_wait(&c->flush_word, FUTEX_SHARED, seen, FUTEX_ANY, FLUSHER_MS);
  atomic_fetch_sub(&c->flush_waiters, 1);
}

int journal_flush(journal *j, uint64_t end) {
  int rc = control_usable(j);
  if (rc) return rc;
  control *c = j->c;
  int64_t from = clock_mono();
  while (!rc && !is_safe(c, end)) {
    uint32_t seen = atomic_load(&c->flush_word);
    if (atomic_load(&c->failed))
      return fail(RESPOOL_UNKNOWN_OUTCOME, "a flush of the journal failed");
    if (is_safe(c, end)) break;
    bool died = false, ours = lock_try(j, FLUSH_LOCK, &died);
    if (!ours && clock_mono() - from < STOPPED_MS) {
      wait_for_flush(c, seen);
      continue;
    }
    rc = flush(j, end, died);
    if (ours) (died && rc ? lock_abandon : lock_leave)(j, FLUSH_LOCK);
    flush_wake(c);
  }
  return rc;
}

/* The tail is read without the state lock, for which this must not wait. */
int journal_flush_all(journal *j) {
  int rc = control_usable(j);
  return rc ? rc : journal_flush(j, atomic_load(&j->c->tail));
}

/* SPDX-License-Identifier: MIT */
/*
 * The flush that all of a moment share. A flusher reads the tail first: all
 * before it is written. Who finds another flushing waits for it, but not for
 * long, since it may have died.
 */
#include "lmdb/journal/flush.h"

#include <limits.h>

#include "base/error.h"
#include "base/fault.h"
#include "lmdb/journal/futex.h"
#include "lmdb/journal/lock.h"
#include "lmdb/journal/log.h"

#define FLUSHER_MS 20

static bool is_safe(const control *c, uint64_t end) {
  return atomic_load(&c->flushed) >= end || atomic_load(&c->freed) >= end;
}

static void raise_to(_Atomic uint64_t *position, uint64_t to) {
  uint64_t at = atomic_load(position);
  while (at < to && !atomic_compare_exchange_weak(position, &at, to))
    ;
}

/* With the flush lock. The tail is read before the file is known to be the
   one of the block: what lies before it is in this file, or applied. */
static int flush(journal *j, uint64_t end) {
  control *c = j->c;
  if (is_safe(c, end) || atomic_load(&c->failed)) return 0;
  uint64_t upto = atomic_load(&c->tail);
  int rc = log_reopen(j);
  if (rc) return rc;
  FAULT_POINT("journal flush begun");
  if (!FAULT_WRONG("no flush") && fdatasync(j->fd))
    atomic_store(&c->failed, 1);
  else
    raise_to(&c->flushed, upto);
  FAULT_POINT("journal flushed");
  atomic_fetch_add(&c->flushes, 1);
  return 0;
}

void flush_wake(control *c) {
  atomic_fetch_add(&c->flush_word, 1);
  if (atomic_load(&c->flush_waiters)) futex_wake(&c->flush_word, INT_MAX);
}

static void wait_for_flush(control *c, uint32_t seen) {
  atomic_fetch_add(&c->flush_waiters, 1);
  futex_wait(&c->flush_word, seen, FLUSHER_MS);
  atomic_fetch_sub(&c->flush_waiters, 1);
}

int journal_flush(journal *j, uint64_t end) {
  int rc = control_usable(j);
  if (rc) return rc;
  control *c = j->c;
  if (j->unsynced) raise_to(&c->flushed, end);
  while (!rc && !is_safe(c, end)) {
    uint32_t seen = atomic_load(&c->flush_word);
    if (atomic_load(&c->failed))
      return fail(RESPOOL_UNKNOWN_OUTCOME, "a flush of the journal failed");
    if (is_safe(c, end)) break;
    if (!lock_try(j, FLUSH_LOCK)) {
      wait_for_flush(c, seen);
      continue;
    }
    rc = flush(j, end);
    lock_leave(j, FLUSH_LOCK);
    flush_wake(c);
  }
  return rc;
}

/* SPDX-License-Identifier: MIT */
/*
 * Entering the block's state; see state.h.
 */
#include "lmdb/journal/state.h"

#include "base/error.h"
#include "lmdb/journal/lock.h"
#include "lmdb/journal/scan.h"

int state_enter(journal *j, bool anyhow) {
  int rc = control_usable(j);
  if (rc) return rc;
  int died = lock_take(j, STATE_LOCK);
  if (died < 0)
    return fail(RESPOOL_IO, "cannot lock the journal's control block");
  if (died && (rc = scan_repair(j)) != 0) {
    lock_abandon(j, STATE_LOCK);
    return rc;
  }
  if (anyhow || !atomic_load(&j->c->failed)) return 0;
  state_leave(j);
  return fail(RESPOOL_IO, "a flush of the journal has failed");
}

void state_leave(journal *j) {
  lock_leave(j, STATE_LOCK);
}

/* SPDX-License-Identifier: MIT */
/*
 * Entering the block's state; see state.h.
 */
#include "lmdb/journal/files/state.h"

#include "base/error.h"
#include "lmdb/journal/files/lock.h"
#include "lmdb/journal/files/scan.h"

#define LOOK_MS 10

static int repair(journal *j) {
  int rc = scan_repair(j);
  if (rc) lock_abandon(j, STATE_LOCK);
  return rc;
}

int state_look(journal *j) {
  bool died;
  int rc = control_usable(j);
  if (rc) return rc;
  rc = lock_take_within(j, STATE_LOCK, LOOK_MS, &died);
  if (rc) return rc == RESPOOL_LOCKED ? JOURNAL_ELSEWHERE : rc;
  return died ? repair(j) : 0;
}

int state_enter(journal *j, bool anyhow) {
  bool died;
  int rc = control_usable(j);
  if (!rc) rc = lock_take(j, STATE_LOCK, &died);
  if (!rc && died) rc = repair(j);
  if (rc) return rc;
  if (anyhow || !atomic_load(&j->c->failed)) return 0;
  state_leave(j);
  return fail(RESPOOL_IO, "a flush of the journal has failed");
}

void state_leave(journal *j) {
  lock_leave(j, STATE_LOCK);
}

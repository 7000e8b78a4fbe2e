/* SPDX-License-Identifier: MIT */
/*
 * The rows of queues, as the engine sets them. The block is the only giver of
 * ids for a queue that has a row; the write lock makes sure that LMDB's next
 * id, when a row is made, is nobody's yet.
 */
#include "base/error.h"
#include "lmdb/journal/files/slots.h"
#include "lmdb/journal/files/state.h"

int journal_queue(journal *j, uint64_t number, uint64_t next_id) {
  if (!number) return fail(RESPOOL_INVALID, "a queue's number is above 0");
  int rc = state_enter(j, true);
  if (rc) return rc;
  row *r = row_find(j->c, number);
  if (!r) r = row_make(j->c, number);
  if (!r)
    rc = JOURNAL_ELSEWHERE;
  else if (!r->known) {
    (void)row_ids(r, next_id, 0);
    if (r->stored_next < next_id) r->stored_next = next_id;
    r->known = 1;
  }
  state_leave(j);
  return rc;
}

bool journal_knows(journal *j, uint64_t number) {
  const row *r = control_usable(j) ? NULL : row_find(j->c, number);
  return r && r->known;
}

int journal_queue_forget(journal *j, uint64_t number) {
  int rc = state_enter(j, true);
  if (rc) return rc;
  row *r = row_find(j->c, number);
  if (r && (r->ready || r->leased || r->old.pushed || r->fresh.pushed))
    rc = fail(RESPOOL_BUSY, "the journal holds records of the queue");
  else if (r)
    row_free(r);
  state_leave(j);
  return rc;
}

/* The rows that there are stay so for the holder of the write lock, which needs
   no other for what is a single number in them. */

uint64_t journal_ids(journal *j, uint64_t number, uint64_t least,
                     uint64_t n) {
  row *r = control_usable(j) ? NULL : row_find(j->c, number);
  return r ? row_ids(r, least, n) : least;
}

int journal_holds(journal *j, uint64_t number, bool *any, int64_t *clock) {
  int rc = control_usable(j);
  const row *r = rc ? NULL : row_find(j->c, number);
  *any = false;
  *clock = INT64_MIN;
  if (!r) return rc;
  rc = state_enter(j, true);
  if (rc) return rc;
  *any = r->ready || r->leased;
  *clock = r->clock;
  state_leave(j);
  return 0;
}

/* Only an empty queue's time goes back. */
int journal_clock(journal *j, uint64_t number, int64_t now) {
  int rc = control_usable(j);
  row *r = rc ? NULL : row_find(j->c, number);
  if (!r) return rc;
  row_raise_clock(r, now);
  if (r->clock == now) return 0;
  rc = state_enter(j, true);
  if (rc) return rc;
  if (!(r->ready || r->leased)) r->clock = now;
  state_leave(j);
  return 0;
}

void journal_view(journal *j, uint64_t number, int64_t lmdb_ready_at) {
  row *r = control_usable(j) ? NULL : row_find(j->c, number);
  if (r) r->lmdb_at = lmdb_ready_at;
}

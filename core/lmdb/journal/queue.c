/* SPDX-License-Identifier: MIT */
/*
 * The rows of queues, as the engine sets them. The block is the only giver of
 * ids for a queue that has a row; the write lock makes sure that LMDB's next
 * id, when a row is made, is nobody's yet.
 */
#include "base/error.h"
#include "lmdb/journal/slots.h"
#include "lmdb/journal/state.h"

int journal_queue(journal *j, uint64_t number, uint64_t next_id) {
  if (!number) return fail(RESPOOL_INVALID, "a queue's number is above 0");
  int rc = state_enter(j, true);
  if (rc) return rc;
  row *r = row_find(j->c, number);
  if (!r) r = row_make(j->c, number);
  if (!r)
    rc = JOURNAL_ELSEWHERE;
  else if (!r->known) {
    if (r->next_id < next_id) r->next_id = next_id;
    if (r->stored_next < next_id) r->stored_next = next_id;
    r->known = 1;
  }
  state_leave(j);
  return rc;
}

int journal_queue_forget(journal *j, uint64_t number) {
  int rc = state_enter(j, true);
  if (rc) return rc;
  row *r = row_find(j->c, number);
  if (r && (r->ready || r->leased))
    rc = fail(RESPOOL_BUSY, "the journal holds items of the queue");
  else if (r)
    row_free(r);
  state_leave(j);
  return rc;
}

int journal_ids(journal *j, uint64_t number, uint64_t n, uint64_t *first) {
  int rc = state_enter(j, true);
  if (rc) return rc;
  row *r = row_find(j->c, number);
  if (!r || !r->known)
    rc = JOURNAL_ELSEWHERE;
  else {
    *first = r->next_id;
    r->next_id += n;
  }
  state_leave(j);
  return rc;
}

int journal_view(journal *j, uint64_t number, int64_t lmdb_ready_at) {
  int rc = state_enter(j, true);
  if (rc) return rc;
  row *r = row_find(j->c, number);
  if (r) r->lmdb_at = lmdb_ready_at;
  state_leave(j);
  return 0;
}

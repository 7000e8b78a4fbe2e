/* SPDX-License-Identifier: MIT */
/*
 * Steps; see step.h.
 */
#include "lmdb/step.h"

#include <string.h>

#include "lmdb/dead/dead_letters.h"
#include "lmdb/dead/named_replay.h"
#include "lmdb/maintain.h"
#include "lmdb/partition/flow.h"
#include "lmdb/queue/claims.h"
#include "lmdb/queue/flow.h"
#include "lmdb/queue/room.h"
#include "lmdb/record/entries.h"
#include "lmdb/record/meta.h"
#include "lmdb/record/notes.h"
#include "lmdb/steps/append.h"
#include "lmdb/steps/change.h"
#include "lmdb/steps/replay.h"
#include "lmdb/steps/settle.h"
#include "lmdb/steps/take.h"
#include "lmdb/unit/journaled.h"
#include "lmdb/unit/policy.h"
#include "lmdb/unit/purge.h"

/* Is it the fault of one push? Any other error would be that of all. */
static bool is_refusal(int rc) {
  return rc == RESPOOL_EXISTS || rc == RESPOOL_FULL ||
         rc == RESPOOL_NOT_FOUND || rc == RESPOOL_TOO_LARGE;
}

static int append(txn *t, unit *u, step *s, int64_t now) {
  append_req *r = &s->append;
  if (r->owner && (r->owner->lost || r->owner_mark->gone)) return 0;
  int rc = lmdb_append(t, s->name, now, r);
  if (r->duplicate || rc == RESPOOL_EXISTS) u->needs_flush = true;
  if (!r->refusal || !is_refusal(rc)) return rc;
  refusal_note(r->refusal, rc);
  return 0;
}

/* An empty take says when to come again. */
static int take(txn *t, step *s, int64_t now) {
  claim_req *r = &s->claim;
  outlook next;
  int rc = lmdb_claim(t, s->name, now, r, r->batch);
  if (rc || r->more || r->batch->page.n) return rc;
  rc = lmdb_outlook(t, s->name, now, NULL, &next);
  r->due_in = next.due_in;
  return rc;
}

static bool is_passed_over(int rc) {
  return rc == RESPOOL_NOT_FOUND || rc == RESPOOL_BUSY; /* gone, or leased */
}

static int remove_items(txn *t, step *s, int64_t now) {
  remove_req *r = &s->remove;
  int rc = 0;
  r->removed = 0;
  for (size_t i = 0; i < r->n && !rc; i++) {
    rc = lmdb_remove(t, s->name, now, r->ids[i]);
    if (!rc)
      r->removed++;
    else if (!r->strict && is_passed_over(rc))
      rc = 0;
  }
  return rc;
}

static int all_found(const step *s, uint64_t number, uint64_t n,
                     uint64_t found) {
  return found == n ? 0 : dead_letter_gone(s->name, number);
}

static int remove_dead(txn *t, step *s) {
  dead_remove_req *r = &s->dead_remove;
  int rc = lmdb_dead_remove(t, s->name, r->numbers, r->n, &r->removed);
  if (rc || !r->strict) return rc;
  return all_found(s, *r->numbers, r->n, r->removed);
}

static int purge_dead(txn *t, step *s) {
  dead_purge_req *r = &s->dead_purge;
  r->upto = r->from;
  return lmdb_dead_purge(t, s->name, r->options, r->limit, &r->upto,
                         &r->removed, &r->more);
}

static int move_dead(txn *t, step *s, int64_t now) {
  move_req *r = &s->move;
  int rc = lmdb_dead_move(t, now, r);
  if (rc || !r->strict) return rc;
  return all_found(s, r->moves->number, r->n, r->moved);
}

static int maintain(txn *t, step *s, int64_t now) {
  memset(&s->maintain.out, 0, sizeof s->maintain.out);
  t->notices_to = s->maintain.notices;
  int rc = lmdb_maintain(t, s->name, now, s->maintain.limit, &s->maintain.out);
  t->notices_to = NULL;
  return rc;
}

/* Where a push would find no room on the disk, the probe finds none. */
static int probe(txn *t, step *s) {
  int rc = disk_room(t, SMALL_PUSH);
  return rc ? rc : lmdb_probe_write(t, &s->probe);
}

static int note(txn *t, const step *s) {
  int rc = s->note.data ? disk_room(t, SMALL_PUSH + s->note.size) : 0;
  return rc ? rc : lmdb_note_save(t, s->name, s->note);
}

static int save_entry(txn *t, const step *s) {
  const entry_req *r = &s->entry;
  int rc = r->bytes.data ? disk_room(t, SMALL_PUSH + r->bytes.size) : 0;
  return rc ? rc : lmdb_entry_save(t, s->name, r);
}

static int touch_change(txn *t, const step *s) {
  int rc = journaled_touch(t, s->name);
  return rc || !s->change.to ? rc : journaled_touch(t, s->change.to);
}

/* Applies the journal's items of a queue before a step that would miss them. */
static int touch(txn *t, const step *s, int64_t now) {
  switch (s->kind) {
    case STEP_SETTLE:
      return claims_journaled(s->settle.batch->claims,
                              s->settle.batch->n_claims) ||
                     journaled_clock_moves(t, s->name, now)
                 ? journaled_touch(t, s->name) : 0;
    case STEP_EXTEND:
      return claims_journaled(s->extend.claims, s->extend.n) ||
                     journaled_clock_moves(t, s->name, now)
                 ? journaled_touch(t, s->name) : 0;
    case STEP_DEAD_MOVE: return journaled_touch(t, s->move.to);
    case STEP_CHANGE: return touch_change(t, s);
    case STEP_APPEND:
    case STEP_CLAIM:
    case STEP_REMOVE:
    case STEP_PURGE:
    case STEP_QUEUE_OPEN:
    case STEP_QUEUE_HOLD:
    case STEP_QUEUE_DROP:
    case STEP_MAINTAIN: return journaled_touch(t, s->name);
    default: return 0;
  }
}

static int do_step(txn *t, unit *u, step *s, int64_t now) {
  switch (s->kind) {
    case STEP_APPEND: return append(t, u, s, now);
    case STEP_CLAIM: return take(t, s, now);
    case STEP_SETTLE: return lmdb_settle(t, s->name, now, &s->settle);
    case STEP_EXTEND:
      return lmdb_extend(t, s->name, now, s->extend.lease, s->extend.token,
                         s->extend.claims, s->extend.n);
    case STEP_REMOVE: return remove_items(t, s, now);
    case STEP_CHANGE: return lmdb_change(t, s->name, now, &s->change);
    case STEP_PURGE:
      return lmdb_purge(t, s->name, now, s->purge.limit, &s->purge.removed,
                        &s->purge.more);
    case STEP_QUEUE_OPEN: return lmdb_queue_open(t, s->name, now, s->policy);
    case STEP_QUEUE_PAUSE: return lmdb_queue_pause(t, s->name, s->paused);
    case STEP_QUEUE_HOLD:
      return s->hold.partition.size
                 ? lmdb_partition_hold(t, s->name, now, s->hold.partition,
                                       s->hold.ms, s->hold.why)
                 : lmdb_queue_hold(t, s->name, now, s->hold.ms, s->hold.why);
    case STEP_QUEUE_DROP: return lmdb_queue_drop(t, s->name, now, &s->purge);
    case STEP_DEAD_REMOVE: return remove_dead(t, s);
    case STEP_DEAD_PURGE: return purge_dead(t, s);
    case STEP_DEAD_MOVE: return move_dead(t, s, now);
    case STEP_REPLAY_SAVE: return lmdb_replay_save(t, s->replay);
    case STEP_REPLAY_CANCEL: return lmdb_replay_cancel(t, s->name);
    case STEP_REPLAY_REMOVE: return lmdb_replay_remove(t, s->name);
    case STEP_ENTRY: return save_entry(t, s);
    case STEP_NOTE: return note(t, s);
    case STEP_MAINTAIN: return maintain(t, s, now);
    case STEP_PROBE: return probe(t, s);
  }
  return fail(RESPOOL_INVALID, "a step of an unknown kind");
}

int lmdb_step(txn *t, unit *u, step *s, int64_t now) {
  int rc = touch(t, s, now);
  return rc ? rc : do_step(t, u, s, now);
}

/* SPDX-License-Identifier: MIT */
/*
 * Queries; see look.h.
 */
#include "lmdb/look.h"

#include "base/clock.h"
#include "base/fault.h"
#include "lmdb/dead/dead_letters.h"
#include "lmdb/dead/groups.h"
#include "lmdb/dead/named_replay.h"
#include "lmdb/queue/append.h"
#include "lmdb/queue/browse.h"
#include "lmdb/queue/flow.h"
#include "lmdb/queue/history.h"
#include "lmdb/queue/policy.h"
#include "lmdb/queue/room.h"
#include "lmdb/queue/take.h"
#include "lmdb/queue/unit.h"
#include "lmdb/record/entries.h"
#include "lmdb/record/meta.h"
#include "lmdb/record/names.h"
#include "lmdb/record/notes.h"
#include "lmdb/repair/check.h"

static int look_at_items(txn *t, query *q, int64_t now) {
  look_req *r = &q->look;
  switch (q->kind) {
    case QUERY_PEEK: return lmdb_peek(t, q->name, now, r->limit, r->page);
    case QUERY_GET:
      return r->key.size ? lmdb_get_key(t, q->name, now, r->key, r->page)
                         : lmdb_get(t, q->name, now, r->id, r->page);
    case QUERY_BROWSE:
      return lmdb_browse(t, q->name, now, r->state, r->limit, &r->cursor,
                         r->page);
    default:
      return lmdb_history(t, q->name, &r->moment, r->limit, r->page);
  }
}

static int look(txn *t, query *q, int64_t now) {
  switch (q->kind) {
    case QUERY_AGREES:
      return lmdb_queue_agrees(t, q->name, q->agrees.options, &q->agrees.yes);
    case QUERY_POLICY: return lmdb_queue_config(t, q->name, q->policy);
    case QUERY_QUEUE_STAT:
      return lmdb_queue_stat(t, q->name, now, q->queue_stat);
    case QUERY_FLOW: return lmdb_queue_flow(t, q->name, now, q->flow);
    case QUERY_FITS: return lmdb_fits(t, q->name, q->fits);
    case QUERY_OUTLOOK: return lmdb_outlook(t, q->name, now, &q->outlook);
    case QUERY_PEEK:
    case QUERY_GET:
    case QUERY_BROWSE:
    case QUERY_HISTORY: return look_at_items(t, q, now);
    case QUERY_LEASES: return lmdb_leases(t, q->name, now, q->leases);
    case QUERY_HELD:
      return lmdb_held(t, q->name, q->held.id, q->held.token, &q->held.yes);
    case QUERY_DEAD_LIST:
      return lmdb_dead_list(t, q->name, q->dead_list.options,
                            q->dead_list.out);
    case QUERY_DEAD_COUNT: return lmdb_dead_count(t, q->name, &q->number);
    case QUERY_DEAD_GROUPS: return lmdb_dead_groups(t, q->name, q->texts);
    case QUERY_REPLAY: return lmdb_replay_load(t, q->name, q->replay);
    case QUERY_ENTRIES:
      q->entries.now = now;
      return lmdb_entries(t, q->entries.kind, q->name, q->entries.out);
    case QUERY_NOTE: return lmdb_note_load(t, q->name, q->texts);
    case QUERY_QUEUES:
    case QUERY_DLQS:
    case QUERY_REPLAYS:
    case QUERY_NOTES:
      return lmdb_names(t, (int)q->kind - QUERY_QUEUES, q->texts);
    case QUERY_PROBE: return lmdb_probe_read(t, &q->number);
    case QUERY_STORE_STAT:
      q->store_stat->disk_full = disk_is_full(t);
      return lmdb_stat(t, q->store_stat);
    case QUERY_CHECK: return lmdb_check(t, q->texts);
  }
  return fail(RESPOOL_INVALID, "a query of an unknown kind");
}

int lmdb_look(env *e, query *q) {
  txn *t;
  if (q->kind == QUERY_STORE_STAT) /* before the transaction's locks */
    commits_stat(&((lmdb_env *)e)->commits, q->store_stat);
  int rc = unit_begin(e, false, &t);
  if (rc) return rc;
  FAULT_POINT("reading");
  rc = look(t, q, q->now == SERVER_TIME ? clock_wall() : q->now);
  unit_abort(t);
  return rc;
}

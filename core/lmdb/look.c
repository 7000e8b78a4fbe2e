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
#include "lmdb/partition/list.h"
#include "lmdb/queue/flow.h"
#include "lmdb/queue/history.h"
#include "lmdb/queue/results.h"
#include "lmdb/queue/room.h"
#include "lmdb/record/entries.h"
#include "lmdb/record/meta.h"
#include "lmdb/record/names.h"
#include "lmdb/record/notes.h"
#include "lmdb/repair/check.h"
#include "lmdb/steps/append.h"
#include "lmdb/steps/browse.h"
#include "lmdb/steps/live.h"
#include "lmdb/steps/take.h"
#include "lmdb/unit/journaled.h"
#include "lmdb/unit/policy.h"
#include "lmdb/unit/unit.h"

static int peek(txn *t, query *q, int64_t now, const live *l) {
  int rc = lmdb_peek(t, q->name, now, q->look.limit, q->look.page);
  return rc ? rc : live_peek(l, q->look.limit, q->look.page);
}

/* Items with a key are never in the journal. */
static int get(txn *t, query *q, int64_t now, const live *l) {
  const look_req *r = &q->look;
  int rc = 0;
  if (r->key.size) return lmdb_get_key(t, q->name, now, r->key, r->page);
  if (live_get(l, q->look.id, q->look.page, &rc)) return rc;
  return lmdb_get(t, q->name, now, q->look.id, q->look.page);
}

static uint64_t live_id(const live *l, size_t k) {
  return k < l->n ? l->items[k].item.id : UINT64_MAX;
}

static size_t body_of_last(const respool_page *p, size_t before) {
  return p->n > before ? p->items[p->n - 1].body.size : 0;
}

/* Goes on by ids with those that the journal had when the walk was over in
   LMDB, which has some of them since. `stored`: LMDB's first one. */
static int browse_on(txn *t, query *q, int64_t now, const live *l,
                     uint64_t stored) {
  look_req *r = &q->look;
  respool_cursor *at = &r->cursor;
  uint64_t bytes = 0, end = (uint64_t)at->at;
  size_t k = 0;
  int rc = 0;
  while (!rc && r->page->n < r->limit && bytes < PAGE_BYTES && at->id < end) {
    uint64_t own = live_id(l, k), id = own < stored ? own : stored;
    size_t before = r->page->n;
    if (id >= end) {
      at->id = end;
      break;
    }
    at->id = id + 1;
    if (id == own)
      rc = live_browse(l, k++, r->state, r->page);
    else {
      rc = lmdb_browse_item(t, q->name, now, r->state, id, r->page);
      stored = lmdb_browse_next(t, q->name, at->id);
    }
    bytes += body_of_last(r->page, before);
  }
  return rc ? rc : t->rc;
}

/* Where the walk is over in LMDB all that lies there was seen, and the ids of
   what the journal has lie behind it, but for a push that ran beside one to
   LMDB. */
static int browse(txn *t, query *q, int64_t now, const live *l) {
  look_req *r = &q->look;
  bool was_over = r->cursor.phase == PHASE_END;
  int rc = lmdb_browse(t, q->name, now, r->state, r->limit, &r->cursor,
                       r->page);
  if (rc || r->cursor.phase != PHASE_END) return rc;
  if (was_over)
    return browse_on(t, q, now, l, lmdb_browse_next(t, q->name, r->cursor.id));
  if (l->n) {
    r->cursor.id = live_id(l, 0);
    if (r->cursor.at <= (int64_t)live_id(l, l->n - 1))
      r->cursor.at = (int64_t)live_id(l, l->n - 1) + 1;
  }
  return browse_on(t, q, now, l, UINT64_MAX);
}

static int leases_of(txn *t, query *q, int64_t now, const live *l) {
  int rc = lmdb_leases(t, q->name, now, q->leases);
  return rc ? rc : live_leases(l, q->leases);
}

static int is_held(txn *t, query *q, const live *l) {
  uint64_t id = q->held.id, token = q->held.token;
  if (live_held(l, id, token, &q->held.yes)) return 0;
  return lmdb_held(t, q->name, id, token, &q->held.yes);
}

static int look_at_items(txn *t, query *q, int64_t now, const live *l) {
  look_req *r = &q->look;
  switch (q->kind) {
    case QUERY_PEEK: return peek(t, q, now, l);
    case QUERY_GET: return get(t, q, now, l);
    case QUERY_BROWSE: return browse(t, q, now, l);
    case QUERY_RESULT: return lmdb_result(t, q->name, r->id, r->page);
    default:
      return lmdb_history(t, q->name, &r->moment, r->limit, r->page);
  }
}

static int stat(txn *t, query *q, int64_t now, const live *l) {
  int rc = lmdb_queue_stat(t, q->name, now, q->queue_stat);
  if (!rc) live_add_stat(l, q->queue_stat);
  return rc;
}

static int look(txn *t, query *q, int64_t now, const live *l) {
  switch (q->kind) {
    case QUERY_AGREES:
      return lmdb_queue_agrees(t, q->name, q->agrees.options, &q->agrees.yes);
    case QUERY_POLICY: return lmdb_queue_config(t, q->name, q->policy);
    case QUERY_QUEUE_STAT: return stat(t, q, now, l);
    case QUERY_FLOW: return lmdb_queue_flow(t, q->name, now, q->flow);
    case QUERY_PARTITIONS:
      return lmdb_partitions(t, q->name, now, &q->partitions);
    case QUERY_FITS: return lmdb_fits(t, q->name, q->fits);
    case QUERY_OUTLOOK:
      return lmdb_outlook(t, q->name, now, l, &q->outlook);
    case QUERY_PEEK:
    case QUERY_GET:
    case QUERY_BROWSE:
    case QUERY_HISTORY:
    case QUERY_RESULT: return look_at_items(t, q, now, l);
    case QUERY_LEASES: return leases_of(t, q, now, l);
    case QUERY_HELD: return is_held(t, q, l);
    case QUERY_DEAD_LIST:
      return lmdb_dead_list(t, q->name, q->dead_list.options,
                            q->dead_list.out);
    case QUERY_DEAD_COUNT: return lmdb_dead_count(t, q->name, &q->number);
    case QUERY_DEAD_GROUPS: return lmdb_dead_groups(t, q->name, now, q->texts);
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

/* The journal's items count too; those that are shown are chosen here. */
static bool looks_at_journal(const query *q, live *l) {
  const look_req *r = &q->look;
  *l = (live){.n = 0};
  switch (q->kind) {
    case QUERY_GET:
      l->from = r->id;
      l->max = 1;
      return true;
    case QUERY_HELD:
      l->from = q->held.id;
      l->max = 1;
      return true;
    case QUERY_BROWSE:
      l->from = r->cursor.phase == PHASE_END ? r->cursor.id : 0;
      l->max = JOURNAL_ITEMS;
      return true;
    case QUERY_PEEK:
    case QUERY_LEASES: l->max = JOURNAL_ITEMS; return true;
    case QUERY_QUEUE_STAT:
    case QUERY_OUTLOOK: return true;
    default: return false;
  }
}

static int begin(env *e, const query *q, int64_t now, live *l, txn **t) {
  if (looks_at_journal(q, l)) return live_begin(e, q->name, now, l, t);
  arena_init(&l->memory);
  return unit_begin(e, false, t);
}

static int add_finding(void *arg, const char *text) {
  pack_phrase(arg, phrase_of(text));
  return 0;
}

static int position(env *e, journal_applied *a) {
  txn *t;
  int rc = unit_begin(e, false, &t);
  if (rc) return rc;
  *a = journaled_position(t);
  rc = t->rc;
  unit_abort(t);
  return rc;
}

#define TRIES 100

/* Findings count if nothing was applied meanwhile: looking waits for no
   writer. */
static int check_journal(lmdb_env *e, packer *findings) {
  journal_applied a, b = {.pos = 0};
  packer found;
  packer_init(&found);
  int rc = position(&e->base, &b);
  for (int i = 0; i < TRIES && !rc; i++) {
    a = b;
    packer_reset(&found);
    rc = journal_check(e->journal, &a, add_finding, &found);
    if (!rc) rc = position(&e->base, &b);
    if (a.pos == b.pos && a.seed == b.seed) break;
  }
  if (!rc && found.len) pack_raw(findings, found.data, found.len);
  packer_free(&found);
  return rc ? rc : findings->rc;
}

/* A journal that cannot be used, or in which somebody stands still, has no
   figures. */
static void journal_stat(journal *j, respool_store_stats *out) {
  journal_state now;
  if (!j || journal_glance(j, &now)) return;
  out->journal_items = now.live;
  out->journal_bytes = now.tail > now.freed ? now.tail - now.freed : 0;
  out->journal_flushes = now.flushes;
}

int lmdb_look(env *e, query *q) {
  int64_t now = q->now == SERVER_TIME ? clock_wall() : q->now;
  txn *t;
  live l;
  if (q->kind == QUERY_STORE_STAT) { /* before the transaction's locks */
    commits_stat(&((lmdb_env *)e)->commits, q->store_stat);
    journal_stat(((lmdb_env *)e)->journal, q->store_stat);
  }
  int rc = begin(e, q, now, &l, &t);
  if (rc) return rc;
  FAULT_POINT("reading");
  rc = look(t, q, now, &l);
  unit_abort(t);
  live_close(&l);
  if (!rc && q->kind == QUERY_CHECK && ((lmdb_env *)e)->journal)
    rc = check_journal((lmdb_env *)e, q->texts);
  return rc;
}

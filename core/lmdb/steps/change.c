/* SPDX-License-Identifier: MIT */
/*
 * Changes of one item on request, while it is not leased: it is due now, dies,
 * moves to another queue, or gets another payload; and its removal, leased or
 * not. An item that shares its claim with others leaves it for a segment and a
 * claim of its own where its time changes; with another payload it stays where
 * it is, so that the order of items does not change.
 */
#include "lmdb/steps/change.h"

#include "base/fault.h"
#include "lmdb/partition/partitions.h"
#include "lmdb/queue/claims.h"
#include "lmdb/queue/find.h"
#include "lmdb/queue/history.h"
#include "lmdb/queue/room.h"
#include "lmdb/queue/state.h"
#include "lmdb/queue/unique_key.h"
#include "lmdb/record/blobs.h"
#include "lmdb/record/item_reader.h"
#include "lmdb/record/segments.h"
#include "lmdb/steps/append.h"
#include "lmdb/unit/end_items.h"
#include "lmdb/unit/purge.h"

#include <string.h>

#define COST 512 /* of keys, a claim or a dead letter's own */

/* The item, copied, and the claim that covers it. */
typedef struct target {
  txn *t;
  queue *q;
  change_req *r;
  int64_t wall, now;
  line line;
  bool claimed, held;
  place at; /* of its claim */
  claim c;
  respool_page page; /* the item alone; the claim's bytes are in its arena */
} target;

/* ---- finding ------------------------------------------------------------ */

static bool is_new(const target *g) {
  const priority_state *l = queue_priority(g->q, g->line.priority);
  return g->line.space == SPACE_READY && l && g->r->id >= l->head;
}

static int read_item(target *g) {
  item_reader c = {.page = &g->page, .line = g->line, .from = g->r->id,
                   .upto = g->r->id, .want = 1};
  int what = read_items(g->t, &c);
  if (g->t->rc) return g->t->rc;
  return what == READ_DAMAGED || what == READ_BAD_ITEM || g->page.n != 1
             ? fail(RESPOOL_CORRUPT, "item %llu of queue '%.120s' is damaged",
                    (unsigned long long)g->r->id, g->q->name)
             : 0;
}

static int find(target *g, const char *name) {
  int rc = 0;
  uint64_t id = g->r->id;
  g->q = queue_find(g->t, name, &rc);
  if (!g->q) return rc;
  if (!find_item(g->t, g->q, id, &g->line))
    return item_not_found(g->t, g->q, id);
  g->now = queue_advance_clock(g->t, g->q, g->wall);
  g->claimed = !is_new(g) && claim_cover(g->t, &g->line, id, &g->at, &g->c);
  g->held = g->claimed && claim_held(&g->c, g->now);
  if (g->held && g->r->kind != ITEM_CANCEL)
    return fail(RESPOOL_BUSY, "item %llu of queue '%.120s' is leased",
                (unsigned long long)id, g->q->name);
  if (g->claimed) claim_own(g->t, &g->page.memory, &g->c);
  return g->t->rc ? g->t->rc : read_item(g);
}

/* The counts and failures of the item so far: a lease that ran out has
   crashed. */
static claim past_of(target *g) {
  claim c = g->claimed ? g->c : (claim){.state = CLAIM_WAITING};
  if (c.state == CLAIM_LEASED) claim_crash(g->t, &g->page.memory, &c);
  return c;
}

/* ---- due now ------------------------------------------------------------ */

static void part(target *g) {
  uint64_t id = g->r->id;
  place p = {g->line, id, 1};
  claim rest = g->c, c = g->c;
  rest.left--;
  claim_move(g->t, &g->at, &g->c, &rest);
  segments_settle(g->t, g->q, &g->line, &id, 1);
  p.line.space = IS_PARTED(&p.line) ? SPACE_PARTED_SOLO : SPACE_SOLO;
  c.last = id;
  c.left = 1;
  c.visible_at = g->now;
  segment_put_one(g->t, g->q, &p, g->page.packed[0], g->page.items[0].about);
  claim_put(g->t, &p, &c);
}

static int run_now(target *g) {
  if (!g->claimed || g->c.visible_at <= g->now) return 0; /* is it ready? */
  if (g->c.left > 1) {
    int rc = disk_copy(g->t, g->page.packed[0].size + COST);
    if (rc) return rc;
    part(g);
  } else {
    claim c = g->c;
    c.visible_at = g->now;
    claim_move(g->t, &g->at, &g->c, &c);
  }
  queue_changed(g->t, g->q);
  return g->t->rc;
}

/* ---- dead --------------------------------------------------------------- */

static int kill_item(target *g) {
  enum count from;
  claim c = past_of(g);
  death d = {.reason = "killed", .items = 1, .at = g->now,
             .error = g->r->error, .failures = c.failures, .memo = c.memo,
             .attempts = c.attempts, .deliveries = c.deliveries,
             .crashes = c.crashes};
  if (!d.error.size) d.error = failures_error(c.failures);
  int rc = disk_copy(g->t, g->page.packed[0].size + c.failures.size +
                               2 * d.error.size + COST);
  if (rc) return rc;
  claims_take_out(g->t, g->q, &g->line, g->r->id, g->now, &from);
  g->t->notices_to = g->r->notices;
  dead_letter_page(g->t, g->q, &g->line, &g->page, 0, &d);
  g->t->notices_to = NULL;
  priority_count(g->t, g->q, g->line.priority, from, COUNT_NONE, 1);
  partition_move(g->t, g->q, &g->line, &g->page.items[0], from, COUNT_NONE);
  g->q->counters.died++;
  queue_changed(g->t, g->q);
  return g->t->rc;
}

/* ---- another queue ------------------------------------------------------ */

static append_req append_of(target *g, const builder *b) {
  const respool_item_about *i = g->page.items[0].about;
  claim c = past_of(g);
  append_req a = {.builder = b, .priority = i->priority,
                  .ttl = RESPOOL_UNLIMITED, .attempts = c.attempts,
                  .deliveries = c.deliveries, .crashes = c.crashes,
                  .failures = c.failures, .memo = c.memo,
                  .lives = true, .max_store = g->r->max_store, .key = i->key,
                  .notices = g->r->notices};
  if (i->expires_at)
    a.ttl = i->expires_at > g->now ? i->expires_at - g->now : 0;
  if (c.visible_at > g->now) a.delay = c.visible_at - g->now;
  return a;
}

/* The push first: where it is refused, nothing has changed. */
static int move_item(target *g) {
  builder b;
  const respool_item *from = &g->page.items[0];
  item i = page_item(from);
  if (!i.origin.queue.size)
    i.origin = (respool_origin){phrase_of(g->q->name), from->id,
                                from->about->pushed_at};
  builder_init(&b, from->about->version);
  builder_add(&b, &i);
  int rc = builder_finish(&b);
  if (!rc) {
    append_req a = append_of(g, &b);
    rc = lmdb_append(g->t, g->r->to, g->wall, &a);
    g->r->moved = a.first;
  }
  builder_free(&b);
  if (!rc) item_remove(g->t, g->q, &g->line, g->r->id, g->now);
  return rc ? rc : g->t->rc;
}

/* ---- another payload ---------------------------------------------------- */

static bool is_as_seen(const target *g) {
  respool_bytes was = g->r->was, is = g->page.items[0].body;
  return !was.data ||
         (was.size == is.size && !memcmp(was.data, is.data, is.size));
}

/* Room for what the new payload has more than the old. */
static int room_to_edit(const target *g, const builder *b, blob_ref old) {
  append_req a = {.builder = b, .max_store = g->r->max_store};
  demand d = builder_demand(b);
  uint64_t gone = g->page.packed[0].size + old.size;
  int rc = queue_check_sizes(g->q, &a);
  if (!rc) rc = store_room(g->t, &a);
  if (rc) return rc;
  d.items = 0;
  d.bytes -= gone < d.bytes ? gone : d.bytes;
  return !d.bytes || queue_has_room(g->q, d) ? 0 : queue_full(g->q, d);
}

/* A lease that ran out is over: its batch has the old payload. */
static void end_lease(target *g) {
  claim c = g->c;
  if (!g->claimed || c.state != CLAIM_LEASED) return;
  claim_end_lease(g->t, g->q, &g->line, &g->page.memory, &c);
  claim_move(g->t, &g->at, &g->c, &c);
}

static int edit_with(target *g, const builder *b) {
  blob_ref old = blob_of(g->page.packed[0]);
  int rc = room_to_edit(g, b, old);
  if (rc) return rc;
  if (!segment_replace(g->t, g->q, &g->line, g->r->id, b)) {
    txn_fail(g->t, RESPOOL_CORRUPT);
    return g->t->rc;
  }
  end_lease(g);
  if (old.number) blob_del(g->t, old.number);
  g->q->bytes -= old.size < g->q->bytes ? old.size : g->q->bytes;
  queue_changed(g->t, g->q);
  return g->t->rc;
}

static int edit(target *g) {
  builder b;
  item i = page_item(&g->page.items[0]);
  if (!is_as_seen(g))
    return fail(RESPOOL_LOCKED, "item %llu of queue '%.120s' was changed by "
                "another", (unsigned long long)g->r->id, g->q->name);
  i.body = g->r->payload->body;
  i.codec = g->r->payload->codec;
  if (g->r->payload->headers.size) i.headers = g->r->payload->headers;
  builder_init(&b, g->r->version);
  builder_add(&b, &i);
  int rc = builder_finish(&b);
  if (!rc) rc = edit_with(g, &b);
  builder_free(&b);
  return rc;
}

/* ---- cancelled ---------------------------------------------------------- */

/* Its batch finds that the claim has fewer items, or is gone. */
static void leave_lease(target *g) {
  claim c = g->c;
  if (FAULT_WRONG("the cancelled leave their lease")) return;
  c.left--;
  if (c.left)
    claim_move(g->t, &g->at, &g->c, &c);
  else
    claim_del(g->t, &g->at, &g->c);
}

/* The item goes to the history, with its blob. */
static void keep_cancelled(target *g) {
  respool_item i = g->page.items[0];
  respool_bytes packed = g->page.packed[0];
  uint64_t size = blob_of(packed).size;
  claim past = past_of(g);
  respool_item_about about = *i.about;
  about.attempts = past.attempts;
  about.deliveries = past.deliveries;
  i.about = &about;
  key_release(g->t, g->q, &i, g->now);
  history_keep_cancelled(g->t, g->q, &i, packed, g->now);
  g->q->bytes -= size < g->q->bytes ? size : g->q->bytes;
  segments_settle(g->t, g->q, &g->line, &i.id, 1);
}

static int cancel(target *g) {
  enum count from = COUNT_LEASED;
  if (g->held)
    leave_lease(g);
  else if (!claims_take_out(g->t, g->q, &g->line, g->r->id, g->now, &from))
    return g->t->rc;
  if (g->q->config.keep_done > 0 && !FAULT_WRONG("the cancelled are kept"))
    keep_cancelled(g);
  else
    drop_page(g->t, g->q, &g->line, &g->page, g->now);
  priority_count(g->t, g->q, g->line.priority, from, COUNT_NONE, 1);
  partition_move(g->t, g->q, &g->line, g->page.items, from, COUNT_NONE);
  g->q->counters.removed++;
  queue_changed(g->t, g->q);
  return g->t->rc;
}

/* ---- change ------------------------------------------------------------- */

static int change(target *g) {
  switch (g->r->kind) {
    case ITEM_RUN_NOW: return run_now(g);
    case ITEM_KILL: return kill_item(g);
    case ITEM_MOVE: return move_item(g);
    case ITEM_EDIT: return edit(g);
    case ITEM_CANCEL: return cancel(g);
  }
  return fail(RESPOOL_INVALID, "a change of an unknown kind");
}

int lmdb_change(txn *t, const char *name, int64_t wall, change_req *r) {
  target g = {.t = t, .r = r, .wall = wall};
  page_init(&g.page);
  int rc = find(&g, name);
  if (!rc) rc = change(&g);
  page_clear(&g.page);
  return rc ? rc : t->rc;
}

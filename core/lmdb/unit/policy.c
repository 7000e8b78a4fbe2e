/* SPDX-License-Identifier: MIT */
/*
 * Queues as a whole: making them with their policy, pausing, counting,
 * dropping.
 */
#include "lmdb/unit/policy.h"

#include "lmdb/dead/dead_letters.h"
#include "lmdb/env/txn/cur.h"
#include "lmdb/partition/flow.h"
#include "lmdb/partition/partitions.h"
#include "lmdb/queue/claims.h"
#include "lmdb/queue/flow.h"
#include "lmdb/queue/history.h"
#include "lmdb/queue/state.h"
#include "lmdb/queue/unique_key.h"
#include "lmdb/record/segments.h"
#include "lmdb/unit/expiry.h"
#include "lmdb/unit/journaled.h"
#include "lmdb/unit/purge.h"

#include <stdio.h>
#include <string.h>

#define SOME_CLAIMS 100 /* looked at for the oldest item that is parked */

/* ---- policy ------------------------------------------------------------- */

int lmdb_queue_open(txn *t, const char *name, int64_t wall,
                    const respool_queue_options *o) {
  int rc = 0;
  queue *q = queue_find(t, name, &rc);
  if (!q && rc != RESPOOL_NOT_FOUND) return rc;
  if (!q) {
    q = queue_make(t, name);
    if (!q) return t->rc;
    config_default(&q->config, name);
  }
  queue_config before = q->config;
  config_apply(&q->config, o);
  if (config_equal(&before, &q->config)) return t->rc;
  if (q->config.ordered && partitions_remain(t, q)) {
    q->config = before;
    return partitions_unordered(q);
  }
  queue_flow_policy(t, q, &before, queue_now(q, wall));
  partitions_policy(t, q, &before);
  queue_changed(t, q);
  return t->rc;
}

int lmdb_queue_agrees(txn *t, const char *name,
                      const respool_queue_options *o, bool *agrees) {
  int rc = 0;
  const queue *q = queue_find(t, name, &rc);
  if (!q) return rc;
  queue_config wanted = q->config;
  config_apply(&wanted, o);
  *agrees = config_equal(&q->config, &wanted);
  return 0;
}

int lmdb_queue_config(txn *t, const char *name, queue_config *out) {
  int rc = 0;
  const queue *q = queue_find(t, name, &rc);
  if (q) *out = q->config;
  return rc;
}

int lmdb_queue_pause(txn *t, const char *name, bool paused) {
  int rc = 0;
  queue *q = queue_find(t, name, &rc);
  if (!q || q->paused == paused) return rc;
  q->paused = paused;
  queue_changed(t, q);
  return t->rc;
}

/* ---- counts ------------------------------------------------------------- */

static void note_ready_since(respool_queue_stats *s, int64_t since) {
  if (!s->oldest || since < s->oldest) s->oldest = since;
}

/* Counts claims that are due as ready. They are found by their time, so the
   cost is that of the due claims, not of all that wait. */
static void count_due(txn *t, const queue *q, int priority, int64_t now,
                      respool_queue_stats *s) {
  place lowest = {{q->id, 0, priority}, 0, 0};
  key start = due_key_of(&lowest, 0);
  due_key d;
  claim c;
  cur at;
  cur_open(&at, t, DB_DUE);
  bool found = cur_seek(&at, key_bytes(&start));
  while (found && due_key_read(at.key, &d) && d.claim.line.queue == q->id &&
         d.claim.line.priority == priority && d.at <= now) {
    if (claim_look(t, &d.claim, &c)) {
      enum count from = claim_count(&c);
      *(from == COUNT_LEASED ? &s->leased : from == COUNT_RETRYING
        ? &s->retrying : &s->scheduled) -= c.left;
      s->ready += c.left;
      note_ready_since(s, d.at);
    }
    found = cur_next(&at);
  }
  if (found && d.claim.line.queue == q->id && d.claim.line.priority
      == priority &&
      (!s->next_due || d.at < s->next_due))
    s->next_due = d.at;
  cur_close(&at);
}

static void note_pushed(txn *t, const line *l, uint64_t id,
                        respool_queue_stats *s) {
  segment g;
  segment_cursor w;
  if (id == UINT64_MAX) return;
  segments_open(&w, t, l, id);
  if (segments_next(&w) && segments_read(&w, &g))
    note_ready_since(s, g.pushed_at);
  segments_close(&w);
}

/* The oldest item of partitions that was never taken, and the first that is
   ready of some that were. */
static void note_parted(txn *t, const queue *q, int priority,
                        respool_queue_stats *s) {
  line l = {q->id, SPACE_PARTED, priority};
  place p;
  claim c;
  note_pushed(t, &l, first_listed(t, q, priority), s);
  l.space = SPACE_PARTED_SOLO;
  place from = {l, 0, 0};
  for (int left = SOME_CLAIMS; left && claim_next(t, q, from, &p, &c) &&
         same_line(&p.line, &l); left--, from.first = p.first + 1) {
    if (c.state != CLAIM_PARKED) continue;
    note_pushed(t, &l, p.first, s);
    return;
  }
}

static void count_priority(txn *t, const queue *q, const priority_state *l,
                       int64_t now, respool_queue_stats *s) {
  line here = {q->id, SPACE_READY, l->priority};
  s->ready += l->ready;
  s->leased += l->leased;
  s->scheduled += l->scheduled;
  s->retrying += l->retrying;
  count_due(t, q, l->priority, now, s);
  if (!l->ready) return;
  note_pushed(t, &here, l->head, s);
  if (q->n_partitions) note_parted(t, q, l->priority, s);
}

int lmdb_queue_stat(txn *t, const char *name, int64_t wall,
                    respool_queue_stats *out) {
  int rc = 0;
  const queue *q = queue_find(t, name, &rc);
  if (!q) return rc;
  int64_t now = queue_now(q, wall);
  *out = q->counters;
  for (size_t i = 0; i < q->n_priorities; i++)
    count_priority(t, q, &q->priorities[i], now, out);
  out->bytes = q->bytes;
  out->paused = q->paused;
  out->partitions = q->n_partitions;
  dlq_stat(t, q->config.dlq, out);
  return t->rc;
}

/* ---- dropping and listing ----------------------------------------------- */

/* BUSY when the queue holds items. */
static int check_empty(const queue *q, const char *name) {
  for (size_t i = 0; i < q->n_priorities; i++)
    if (priority_items(&q->priorities[i]))
      return fail(RESPOOL_BUSY, "queue '%.120s' still holds items", name);
  return 0;
}

/* Deletes finished items, and keys in their windows; true when there may be
   more. */
static bool forget_finished(txn *t, queue *q, int limit) {
  int left = limit;
  history_drop(t, q, &left);
  uint64_t most = (uint64_t)limit;
  return key_sweep(t, q, INT64_MAX, most) == most || left == 0;
}

/* Takes nothing more out of the queue, unless something is leased. */
static int begin_drop(txn *t, queue *q, const char *name, int64_t wall) {
  respool_queue_stats s;
  int rc = lmdb_queue_stat(t, name, wall, &s);
  if (!rc && s.leased)
    return fail(RESPOOL_BUSY, "queue '%.120s' has %llu leased item%s", name,
                (unsigned long long)s.leased, s.leased == 1 ? "" : "s");
  q->paused = true;
  queue_changed(t, q);
  return rc;
}

int lmdb_queue_drop(txn *t, const char *name, int64_t wall, purge_req *r) {
  int rc = 0;
  queue *q = queue_find(t, name, &rc);
  if (q && r->first) rc = begin_drop(t, q, name, wall);
  if (!rc) rc = lmdb_purge(t, name, wall, r->limit, &r->removed, &r->more);
  if (!rc && !r->more) rc = check_empty(q, name); /* resumed meanwhile? */
  if (!rc && !r->more) r->more = forget_finished(t, q, (int)r->limit);
  if (!rc && !r->more) r->more = partitions_drop(t, q, r->limit);
  if (!rc && !r->more) r->more = !journaled_forget(t, q);
  if (rc || r->more) return rc ? rc : t->rc;
  expiry_forget(t, q);
  txn_del(t, DB_QUEUES, phrase_of(name));
  queues_forget(t, q);
  return t->rc;
}

/* ---- replays ------------------------------------------------------------ */

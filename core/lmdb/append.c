/* SPDX-License-Identifier: MIT */
/*
 * Append: the next ids, the segments, and for what is not due yet one claim
 * over them all. Refuses before it changes anything.
 */
#include "parts.h"

/* What settling and dead-lettering may still use when pushes are refused. */
#define RESERVE_SHARE 16
#define RESERVE_MAX ((uint64_t)64 << 20)

#define RECOUNT 1024 /* commits after which free pages are counted again */

static uint64_t unsettled(const queue *q) {
  uint64_t n = 0;
  for (size_t i = 0; i < q->n_lanes; i++)
    n += q->lanes[i].ready + q->lanes[i].leased + q->lanes[i].waiting;
  return n;
}

static uint64_t batch_size(const batch *b) {
  return b->bytes.len + b->blobs.len;
}

static bool over(uint64_t have, uint64_t more, int64_t limit) {
  return limit != RESPOOL_UNLIMITED && have + more > (uint64_t)limit;
}

static int queue_room(const queue *q, const batch *b) {
  if (over(unsettled(q), b->n_items, q->config.max_items))
    return fail(RESPOOL_FULL, "queue \"%.120s\" is full: max_items is %lld",
                q->name, (long long)q->config.max_items);
  if (over(q->bytes, batch_size(b), q->config.max_bytes))
    return fail(RESPOOL_FULL, "queue \"%.120s\" is full: max_queue_bytes is "
                "%lld", q->name, (long long)q->config.max_bytes);
  return 0;
}

/* Counting free pages costs more than a push, so between counts what was
   pushed since is taken for used. */
static bool fits(txn *t, uint64_t more, uint64_t limit) {
  lmdb_env *e = t->env;
  if (txn_high_water(t) + more <= limit) return true;
  if (e->used && txn_number(t) - e->used_at < RECOUNT &&
      e->used + more <= limit)
    return true;
  e->used = txn_used(t);
  e->used_at = txn_number(t);
  return e->used + more <= limit;
}

static int store_room(txn *t, const append_req *r) {
  if (!r->max_store) return 0;
  uint64_t reserve = r->max_store / RESERVE_SHARE;
  if (reserve > RESERVE_MAX) reserve = RESERVE_MAX;
  uint64_t more = batch_size(r->batch) + batch_size(r->batch) / 8;
  if (fits(t, more, r->max_store - reserve)) {
    t->env->used += more;
    return 0;
  }
  return fail(RESPOOL_FULL, "store \"%.120s\" is full: max_bytes is %llu",
              t->env->path, (unsigned long long)r->max_store);
}

/* ---- times -------------------------------------------------------------- */

static int64_t due_time(const queue *q, const append_req *r, int64_t now) {
  if (r->delay > 0) return time_after(now, r->delay);
  int64_t at = r->at > 0 ? time_after(q->clock_offset, r->at) : now;
  return at > now ? at : now;
}

static int64_t expiry_time(const queue *q, const append_req *r, int64_t now) {
  int64_t ttl = r->ttl == RESPOOL_KEEP ? q->config.ttl : r->ttl;
  return ttl == RESPOOL_UNLIMITED ? 0 : time_after(now, ttl);
}

/* ---- appending ---------------------------------------------------------- */

static void claim_until(txn *t, const line *l, const append_req *r,
                        uint64_t first, int64_t due, int64_t now) {
  claim c = {.last = first + r->batch->n_items - 1, .state = CLAIM_WAITING,
             .visible_at = due, .left = r->batch->n_items,
             .attempts = r->attempts, .delay = due - now};
  place p = {*l, first, 0};
  claim_put(t, &p, &c);
}

static int append_items(txn *t, queue *q, append_req *r, int64_t now) {
  uint64_t first = q->next_id, n = r->batch->n_items;
  int64_t due = due_time(q, r, now);
  bool parked = due > now || r->attempts > 0;
  line l = {q->id, parked ? SPACE_DELAYED : SPACE_READY, r->lane};
  lane_count(t, q, r->lane, COUNT_NONE,
             parked ? COUNT_WAITING : COUNT_READY, n);
  segments_append(t, q, r, &l, first, now, expiry_time(q, r, now));
  if (parked) claim_until(t, &l, r, first, due, now);
  q->next_id += n;
  q->counters.pushed += n;
  queue_changed(t, q);
  if (!t->rc) r->first = first;
  return t->rc;
}

int lmdb_append(txn *t, const char *name, int64_t wall, append_req *r) {
  int rc = 0;
  queue *q = queue_find(t, name, &rc);
  if (!q) return rc;
  rc = queue_room(q, r->batch);
  if (!rc) rc = store_room(t, r);
  return rc ? rc : append_items(t, q, r, queue_tick(t, q, wall));
}

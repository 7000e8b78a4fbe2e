/* SPDX-License-Identifier: MIT */
/*
 * Room: whether a push fits the bounds of its queue, of its store and of the
 * disk. The store and the disk keep a reserve, so that a full store refuses
 * pushes and still lets consumers take, settle and dead-letter.
 */
#include "lmdb/queue/room.h"

#include "base/error.h"
#include "lmdb/env/txn/space.h"

/* Space reserved for settles and dead letters when pushes are refused. */
#define RESERVE_SHARE 16
#define RESERVE_MAX ((uint64_t)64 << 20)

#define DISK_MIN ((uint64_t)1 << 20) /* the reserve of the disk, at least */

/* The part of the reserve that only takes, and settles that copy nothing, may
   use. */
#define DISK_LAST ((uint64_t)256 << 10)

#define RECOUNT 1024 /* commits after which free pages are counted again */

static uint64_t unsettled(const queue *q) {
  uint64_t n = 0;
  for (size_t i = 0; i < q->n_priorities; i++)
    n += priority_items(&q->priorities[i]);
  return n;
}

demand builder_demand(const builder *b) {
  return (demand){b->n_items, b->bytes.len + b->blobs.len};
}

static bool over(uint64_t have, uint64_t more, int64_t limit) {
  return limit != RESPOOL_UNLIMITED && have + more > (uint64_t)limit;
}

bool queue_has_room(const queue *q, demand d) {
  return !over(unsettled(q), d.items, q->config.max_items) &&
         !over(q->bytes, d.bytes, q->config.max_bytes);
}

bool queue_could_hold(const queue *q, demand d) {
  return !over(0, d.items, q->config.max_items) &&
         !over(0, d.bytes, q->config.max_bytes);
}

static int full_error(const queue *q, const char *bound, int64_t limit,
                      uint64_t more) {
  if (over(0, more, limit))
    return fail(RESPOOL_FULL, "queue '%.120s' is full: %s is %lld, it can "
                "never hold %llu at once", q->name, bound, (long long)limit,
                (unsigned long long)more);
  return fail(RESPOOL_FULL, "queue '%.120s' is full: %s is %lld", q->name,
              bound, (long long)limit);
}

int queue_full(const queue *q, demand d) {
  const queue_config *c = &q->config;
  if (over(unsettled(q), d.items, c->max_items))
    return full_error(q, "max_items", c->max_items, d.items);
  return full_error(q, "max_queue_bytes", c->max_bytes, d.bytes);
}

int queue_check_sizes(const queue *q, append_req *r) {
  int64_t limit = q->config.max_bytes;
  if (r->bound) *r->bound = limit;
  if (!over(0, builder_demand(r->builder).bytes, limit)) return 0;
  uint64_t size = builder_largest(r->builder);
  if (!over(0, size, limit)) return 0;
  return fail(RESPOOL_TOO_LARGE, "an item that takes %llu bytes is over "
              "max_queue_bytes of queue '%.120s', %lld",
              (unsigned long long)size, q->name, (long long)limit);
}

/* ---- the disk ----------------------------------------------------------- */

static uint64_t disk_reserve_at(uint64_t high_water) {
  uint64_t reserve = high_water / RESERVE_SHARE;
  if (reserve > RESERVE_MAX) return RESERVE_MAX;
  return reserve < DISK_MIN ? DISK_MIN : reserve;
}

static uint64_t disk_reserve(txn *t) {
  return disk_reserve_at(space_high_water(t->env));
}

bool disk_is_short(txn *t) {
  return !space_claim(t, 0, disk_reserve(t));
}

bool disk_is_full(txn *t) {
  return !space_has(t, SMALL_PUSH + disk_reserve(t));
}

static int no_space(const txn *t) {
  return fail_of_store(fail(
      RESPOOL_NOSPACE, "no space left on the device for store '%.120s'",
      t->env->path));
}

int disk_copy(txn *t, uint64_t more) {
  return space_claim(t, more, DISK_LAST) ? 0 : no_space(t);
}

int disk_room(txn *t, uint64_t more) {
  return space_claim(t, more, disk_reserve(t)) ? 0 : no_space(t);
}

/* ---- the store ---------------------------------------------------------- */

/* Counting free pages costs more than a push, so between counts all that was
   pushed since counts as used. */
static bool fits(txn *t, uint64_t more, uint64_t limit) {
  lmdb_env *e = t->env;
  if (space_high_water(t->env) + more <= limit) return true;
  if (e->used && txn_number(t) - e->used_at < RECOUNT &&
      e->used + more <= limit)
    return true;
  e->used = space_used(t);
  e->used_at = txn_number(t);
  return e->used + more <= limit;
}

/* LMDB stores a value of half a page or more in pages of its own. */
#define PAGE ((uint64_t)4096)
#define PAGE_HEAD 16

static uint64_t in_pages(uint64_t size) {
  if (size < PAGE / 2) return size;
  return (size + PAGE_HEAD + PAGE - 1) / PAGE * PAGE;
}

static uint64_t stored_size(const builder *b) {
  uint64_t size = b->blobs.len + b->blobs.len / 64;
  for (size_t i = 0; i < b->n_segments; i++)
    size += in_pages(b->segments[i].size);
  return size + size / 8;
}

/* Where the map is smaller than max_bytes, it is the limit. */
static uint64_t limit_of(const lmdb_env *e, uint64_t max_store) {
  return max_store < e->map_size ? max_store : e->map_size;
}

/* The share of a limit that pushes may fill. */
static uint64_t for_pushes(uint64_t limit) {
  uint64_t reserve = limit / RESERVE_SHARE;
  return limit - (reserve > RESERVE_MAX ? RESERVE_MAX : reserve);
}

int store_room(txn *t, const append_req *r) {
  if (!r->max_store) return 0;
  uint64_t limit = limit_of(t->env, r->max_store);
  uint64_t more = stored_size(r->builder);
  if (fits(t, more, for_pushes(limit))) {
    t->env->used += more;
    return disk_room(t, more);
  }
  return fail_of_store(fail(
      RESPOOL_FULL, "store '%.120s' is full: %s %llu", t->env->path,
      limit < r->max_store ? "its map has" : "max_bytes is",
      (unsigned long long)limit));
}

/* Items that are leased take most: a segment and a claim each. */
#define APPLIED_MAX ((uint64_t)8 << 20)

bool journal_room(lmdb_env *e, uint64_t max_store) {
  uint64_t end = space_high_water(e) + APPLIED_MAX;
  uint64_t reserve = disk_reserve_at(end - APPLIED_MAX);
  bool fits = !max_store || end <= for_pushes(limit_of(e, max_store)) ||
              (e->used && txn_env_newest(e) - e->used_at < RECOUNT &&
               e->used + APPLIED_MAX <= for_pushes(limit_of(e, max_store)));
  return fits && space_claim_file(e, APPLIED_MAX + reserve);
}

/* ---- expired items ------------------------------------------------------ */

#define DEAD_COST 160 /* a dead letter is larger than a small item */

int expiry_room(txn *t, const queue *q, const place *at) {
  if (q->config.on_expire == RESPOOL_LIMIT_DROP) return 0;
  return disk_copy(t, SEGMENT_BYTES + (uint64_t)at->count * DEAD_COST);
}

/* SPDX-License-Identifier: MIT */
/*
 * Append: the next ids, the segments, and for what is not due yet one claim
 * over them all. Refuses before it changes anything but what has expired:
 * that makes room, and frees its key, before a push is refused for it.
 */
#include "lmdb/parts.h"

/* What settling and dead-lettering may still use when pushes are refused. */
#define RESERVE_SHARE 16
#define RESERVE_MAX ((uint64_t)64 << 20)

#define DISK_MIN ((uint64_t)1 << 20) /* of the disk, for the same */

/* Of that, what is left to takes, and to settles that copy nothing. */
#define DISK_LAST ((uint64_t)256 << 10)

#define RECOUNT 1024 /* commits after which free pages are counted again */

#define EXPIRE_MAX 64 /* expired segments ended by one push, and one an item */

static uint64_t unsettled(const queue *q) {
  uint64_t n = 0;
  for (size_t i = 0; i < q->n_priorities; i++)
    n += q->priorities[i].ready + q->priorities[i].leased +
        q->priorities[i].waiting;
  return n;
}

static uint64_t builder_size(const builder *b) {
  return b->bytes.len + b->blobs.len;
}

static bool over(uint64_t have, uint64_t more, int64_t limit) {
  return limit != RESPOOL_UNLIMITED && have + more > (uint64_t)limit;
}

static bool has_room(const queue *q, const builder *b) {
  return !over(unsettled(q), b->n_items, q->config.max_items) &&
         !over(q->bytes, builder_size(b), q->config.max_bytes);
}

static bool fits_empty(const queue *q, const builder *b) {
  return !over(0, b->n_items, q->config.max_items) &&
         !over(0, builder_size(b), q->config.max_bytes);
}

/* Says that there is no room for `more` of what has this bound, or when the
   empty queue would not have any either, that there never is. */
static int full_of(const queue *q, const char *bound, int64_t limit,
                   uint64_t more) {
  if (over(0, more, limit))
    return fail(RESPOOL_FULL, "queue \"%.120s\" is full: %s is %lld, it can "
                "never hold %llu at once", q->name, bound, (long long)limit,
                (unsigned long long)more);
  return fail(RESPOOL_FULL, "queue \"%.120s\" is full: %s is %lld", q->name,
              bound, (long long)limit);
}

static int no_room(const queue *q, const builder *b) {
  const queue_config *c = &q->config;
  if (over(unsettled(q), b->n_items, c->max_items))
    return full_of(q, "max_items", c->max_items, b->n_items);
  return full_of(q, "max_queue_bytes", c->max_bytes, builder_size(b));
}

/* An item that is larger than the queue may be will never fit. */
static int check_sizes(const queue *q, append_req *r) {
  int64_t limit = q->config.max_bytes;
  if (r->bound) *r->bound = limit;
  if (!over(0, builder_size(r->builder), limit)) return 0;
  uint64_t size = builder_largest(r->builder);
  if (!over(0, size, limit)) return 0;
  return fail(RESPOOL_TOO_LARGE, "an item that takes %llu bytes is over "
              "max_queue_bytes of queue \"%.120s\", %lld",
              (unsigned long long)size, q->name, (long long)limit);
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

static uint64_t disk_reserve(txn *t) {
  uint64_t reserve = txn_high_water(t) / RESERVE_SHARE;
  if (reserve > RESERVE_MAX) return RESERVE_MAX;
  return reserve < DISK_MIN ? DISK_MIN : reserve;
}

bool disk_is_short(txn *t) {
  return !txn_claim_disk(t, 0, disk_reserve(t));
}

static int no_space(const txn *t) {
  return fail(RESPOOL_NOSPACE, "no space left on the device for store "
              "\"%.120s\"", t->env->path);
}

int disk_copy(txn *t, uint64_t more) {
  return txn_claim_disk(t, more, DISK_LAST) ? 0 : no_space(t);
}

/* A disk that is full refuses pushes while there is still room for what
   settling and dead-lettering write. */
static int disk_room(txn *t, uint64_t more) {
  return txn_claim_disk(t, more, disk_reserve(t)) ? 0 : no_space(t);
}

/* What a batch takes of the file: LMDB gives a value that fills half a page
   or more pages of its own. */
#define PAGE ((uint64_t)4096)
#define PAGE_HEAD 16

static uint64_t in_pages(uint64_t size) {
  if (size < PAGE / 2) return size;
  return (size + PAGE_HEAD + PAGE - 1) / PAGE * PAGE;
}

static uint64_t stored_size(const builder *b) {
  uint64_t size = b->blobs.len + b->blobs.len / 64;
  for (size_t i = 0; i < b->n_spans; i++) size += in_pages(b->spans[i].size);
  return size + size / 8;
}

/* Where the map is smaller than max_bytes, it is the limit. */
static int store_room(txn *t, const append_req *r) {
  if (!r->max_store) return 0;
  uint64_t limit = r->max_store < t->env->map_size ? r->max_store
                                                   : t->env->map_size;
  uint64_t reserve = limit / RESERVE_SHARE;
  if (reserve > RESERVE_MAX) reserve = RESERVE_MAX;
  uint64_t more = stored_size(r->builder);
  if (fits(t, more, limit - reserve)) {
    t->env->used += more;
    return disk_room(t, more);
  }
  return fail(RESPOOL_FULL, "store \"%.120s\" is full: %s %llu",
              t->env->path, limit < r->max_store ? "its map has"
                                                 : "max_bytes is",
              (unsigned long long)limit);
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
                        uint64_t first, int64_t due) {
  claim c = {.last = first + r->builder->n_items - 1, .state = CLAIM_WAITING,
             .visible_at = due, .left = r->builder->n_items,
             .attempts = r->attempts, .memo = r->memo};
  place p = {*l, first, 0};
  claim_put(t, &p, &c);
}

static int append_items(txn *t, queue *q, append_req *r, int64_t now) {
  uint64_t first = q->next_id, n = r->builder->n_items;
  int64_t due = due_time(q, r, now);
  bool parked = due > now || r->attempts > 0 || r->memo.size > 0;
  line l = {q->id, parked ? SPACE_DELAYED : SPACE_READY, r->priority};
  priority_count(t, q, r->priority, COUNT_NONE,
             parked ? COUNT_WAITING : COUNT_READY, n);
  segments_append(t, q, r, &l, first, now, expiry_time(q, r, now));
  if (parked) claim_until(t, &l, r, first, due);
  q->next_id += n;
  q->counters.pushed += n;
  q->counters.pushed_bytes += r->builder->body_bytes;
  if (r->reason) q->counters.flushes[r->reason]++;
  queue_changed(t, q);
  if (!t->rc) r->first = first;
  return t->rc;
}

/* ---- keys --------------------------------------------------------------- */

static bool end_expired_item(txn *t, queue *q, append_req *r, uint64_t id,
                             int64_t now) {
  uint64_t before = t->changes;
  bool ended = item_expire(t, q, id, now);
  r->ending += t->changes - before;
  return ended;
}

/* What a push with a key that is held comes to: true when it goes on. */
static bool resolve(txn *t, queue *q, append_req *r, const holder *h,
                    int64_t now, int *rc) {
  line l;
  if (r->on_conflict == RESPOOL_CONFLICT_FAIL) {
    *rc = fail(RESPOOL_EXISTS, "item %llu of queue \"%.120s\" holds this key",
               (unsigned long long)h->id, q->name);
    return false;
  }
  if (r->on_conflict == RESPOOL_CONFLICT_IGNORE) {
    r->first = h->id;
    r->held = true;
    return false;
  }
  if (!end_expired_item(t, q, r, h->id, now) && find_item(t, q, h->id, &l))
    item_remove(t, q, &l, h->id, now);
  return true;
}

/* Is the key held, once an item that has expired is ended? In its window a
   key is held all the same. */
static bool key_held(txn *t, queue *q, append_req *r, int64_t now,
                     holder *h) {
  return unique_held(t, q, r->key, now, h) &&
         (h->until > now || !end_expired_item(t, q, r, h->id, now));
}

/* ---- overflow ----------------------------------------------------------- */

/* The priority whose next fresh item was pushed first; NULL: none has any. */
static priority_state *oldest_priority(txn *t, queue *q, uint64_t *id) {
  priority_state *oldest = NULL;
  *id = UINT64_MAX;
  for (size_t i = 0; i < q->n_priorities; i++) {
    priority_state *l = &q->priorities[i];
    line here = {q->id, SPACE_READY, l->priority};
    uint64_t first = l->ready ? first_live(t, &here, l->head) : UINT64_MAX;
    if (first >= *id) continue;
    *id = first;
    oldest = l;
  }
  return oldest;
}

static bool drop_oldest(txn *t, queue *q, int64_t now) {
  uint64_t id;
  const priority_state *l = oldest_priority(t, q, &id);
  if (!l || t->rc) return false;
  line here = {q->id, SPACE_READY, l->priority};
  if (!item_remove(t, q, &here, id, now)) return false;
  q->counters.dropped++;
  return true;
}

/* The push becomes dead letters: its items are appended and die at once. */
static int append_dead(txn *t, queue *q, append_req *r, int64_t now) {
  append_req fresh = *r;
  fresh.delay = fresh.at = 0;
  fresh.attempts = 0;
  fresh.ttl = RESPOOL_UNLIMITED;
  int rc = append_items(t, q, &fresh, now);
  if (rc) return rc;
  respool_page p;
  page_init(&p);
  line l = {q->id, SPACE_READY, r->priority};
  catch c = {.page = &p, .line = l, .from = fresh.first,
             .upto = UINT64_MAX, .want = UINT64_MAX};
  death d = {.reason = "overflow", .items = 1, .at = now,
             .error = phrase_of("the queue was full")};
  while (items_catch(t, &c) == CATCH_BAD_ITEM) continue;
  bury_page(t, q, &l, &p, 0, &d);
  priority_count(t, q, r->priority, COUNT_READY, COUNT_NONE, p.n);
  q->counters.died += p.n;
  page_clear(&p);
  r->first = fresh.first;
  return t->rc;
}

/* Nothing more fits, however small. */
static bool is_brimful(const queue *q) {
  return over(unsettled(q), 1, q->config.max_items) ||
         over(q->bytes, 1, q->config.max_bytes);
}

static int append_apart(txn *t, queue *q, append_req *r, int64_t now);

/* The first half of the items, then the rest. */
static int append_halves(txn *t, queue *q, append_req *r, int64_t now,
                         builder *half) {
  append_req first = *r, rest = *r;
  first.builder = &half[0];
  rest.builder = &half[1];
  rest.reason = 0;
  int rc =
      builder_split(r->builder, r->builder->n_items / 2, &half[0], &half[1]);
  if (rc) return fail(rc, "not enough memory for a push");
  rc = append_apart(t, q, &first, now);
  if (!rc) rc = append_apart(t, q, &rest, now);
  r->first = first.first;
  return rc;
}

/* What fits is appended, what does not becomes dead letters. */
static int append_apart(txn *t, queue *q, append_req *r, int64_t now) {
  builder half[2];
  if (has_room(q, r->builder)) return append_items(t, q, r, now);
  if (r->builder->n_items == 1 || is_brimful(q))
    return append_dead(t, q, r, now);
  builder_init(&half[0], r->builder->version);
  builder_init(&half[1], r->builder->version);
  int rc = append_halves(t, q, r, now, half);
  builder_free(&half[0]);
  builder_free(&half[1]);
  return rc;
}

/* A push for which the queue has no room, by the queue's policy. */
static int overflow(txn *t, queue *q, append_req *r, int64_t now) {
  if (q->config.overflow == RESPOOL_OVERFLOW_DEAD)
    return r->apart ? append_apart(t, q, r, now) : append_dead(t, q, r, now);
  if (q->config.overflow != RESPOOL_OVERFLOW_DROP_OLDEST || r->never)
    return no_room(q, r->builder);
  while (!has_room(q, r->builder))
    if (!drop_oldest(t, q, now)) return t->rc ? t->rc : no_room(q, r->builder);
  return append_items(t, q, r, now);
}

/* ---- append ------------------------------------------------------------- */

/* Ends what has expired until the push has room. As each step frees an item
   that nobody holds, about as many will do as it has items. */
static void make_room(txn *t, queue *q, append_req *r, int64_t now) {
  uint64_t left = EXPIRE_MAX + r->builder->n_items, before = t->changes;
  while (left-- > 0 && !has_room(q, r->builder) && expiry_sweep(t, q, now, 1))
    continue;
  r->ending += t->changes - before;
}

static int append_where_room(txn *t, queue *q, append_req *r, int64_t now) {
  r->never = !fits_empty(q, r->builder);
  if (!r->never) make_room(t, q, r, now);
  if (t->rc) return t->rc;
  return has_room(q, r->builder) ? append_items(t, q, r, now)
                               : overflow(t, q, r, now);
}

static int append_unique(txn *t, queue *q, append_req *r, int64_t now) {
  holder h;
  int rc = 0;
  if (key_held(t, q, r, now, &h) && !resolve(t, q, r, &h, now, &rc))
    return rc ? rc : t->rc;
  rc = append_where_room(t, q, r, now);
  h = (holder){r->first, r->dedup ? time_after(now, r->dedup) : 0};
  if (!rc) unique_hold(t, q, r->key, h);
  return rc ? rc : t->rc;
}

int lmdb_fits(txn *t, const char *name, append_req *r) {
  int rc = 0;
  const queue *q = queue_find(t, name, &rc);
  return q ? check_sizes(q, r) : rc;
}

static int append_to(txn *t, queue *q, append_req *r, int64_t wall) {
  int rc = check_sizes(q, r);
  if (!rc) rc = store_room(t, r);
  if (rc) return rc;
  int64_t now = queue_tick(t, q, wall);
  return r->key.size ? append_unique(t, q, r, now)
                     : append_where_room(t, q, r, now);
}

int lmdb_append(txn *t, const char *name, int64_t wall, append_req *r) {
  int rc = 0;
  r->held = r->never = false;
  r->ending = 0;
  queue *q = queue_find(t, name, &rc);
  if (!q) return rc;
  uint64_t before = t->changes;
  t->listener = r->notices;
  rc = append_to(t, q, r, wall);
  t->listener = NULL;
  r->only_ended = t->changes - before == r->ending;
  return rc;
}

/* SPDX-License-Identifier: MIT */
/*
 * Append: a push gets the next ids and its segments, and one claim over all
 * its items if they are not due yet. Expired items end first, which makes room
 * and frees keys; apart from that a push that is refused changes nothing.
 */
#include "lmdb/steps/append.h"

#include "lmdb/partition/partitions.h"
#include "lmdb/queue/claims.h"
#include "lmdb/queue/find.h"
#include "lmdb/queue/room.h"
#include "lmdb/queue/state.h"
#include "lmdb/queue/unique_key.h"
#include "lmdb/record/segments.h"
#include "lmdb/unit/end_items.h"
#include "lmdb/unit/expiry.h"
#include "lmdb/unit/journaled.h"
#include "lmdb/unit/purge.h"

#define EXPIRE_MAX 64 /* expired segments ended by one push, and one an item */

/* ---- room --------------------------------------------------------------- */

static bool has_room(const queue *q, const append_req *r) {
  return queue_has_room(q, builder_demand(r->builder));
}

static int no_room(const queue *q, const append_req *r) {
  return queue_full(q, builder_demand(r->builder));
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

/* The claim of items that wait, or of which there is something to know. */
static claim claim_until(const append_req *r, int64_t due) {
  return (claim){.state = CLAIM_WAITING, .visible_at = due,
                 .left = r->builder->n_items, .attempts = r->attempts,
                 .deliveries = r->deliveries, .crashes = r->crashes,
                 .failures = r->failures, .memo = r->memo};
}

/* One claim; of items of partitions and others one for each segment. */
static void put_waiting(txn *t, const builder *b, place p, claim c) {
  int space = p.line.space;
  if (!b->parted) claim_put(t, &p, &c);
  for (size_t i = 0; b->parted && i < b->n_segments; i++) {
    c.left = b->segments[i].count;
    c.last = p.first + c.left - 1;
    p.line.space = b->segments[i].parted ? SPACE_PARTED : space;
    claim_put(t, &p, &c);
    p.first += c.left;
  }
}

static int append_items(txn *t, queue *q, append_req *r, int64_t now) {
  uint64_t n = r->builder->n_items;
  int64_t due = due_time(q, r, now);
  claim c = claim_until(r, due);
  bool waits = due > now || claim_has_failed(&c) || c.deliveries > 0 ||
               c.memo.size > 0;
  place p = {{q->id, waits ? SPACE_DELAYED : SPACE_READY, r->priority}, 0, 0};
  priority_count(t, q, r->priority, COUNT_NONE,
                 waits ? claim_count_waiting(&c) : COUNT_READY, n);
  p.first = journaled_ids(t, q, n); /* from the priority's head on */
  c.last = p.first + n - 1;
  segments_append(t, q, r, &p.line, p.first, now, expiry_time(q, r, now));
  if (waits) put_waiting(t, r->builder, p, c);
  if (r->builder->parted) {
    partitions_push(t, q, r, p.first, waits);
    pass_unlisted(t, q, r->priority, r->builder->n_segments);
  }
  q->counters.pushed += n;
  q->counters.pushed_bytes += r->builder->body_bytes;
  if (r->reason) q->counters.flushes[r->reason]++;
  queue_changed(t, q);
  if (!t->rc) r->first = p.first;
  return t->rc;
}

/* ---- keys --------------------------------------------------------------- */

static bool end_expired_item(txn *t, queue *q, append_req *r, uint64_t id,
                             int64_t now) {
  uint64_t before = t->changes;
  bool ended = item_expire(t, q, id, now);
  r->expired_changes += t->changes - before;
  return ended;
}

/* Applies on_conflict to a key in use. Returns true if the push may proceed.
   */
static bool resolve_conflict(txn *t, queue *q, append_req *r,
                             const key_owner *h, int64_t now, int *rc) {
  line l;
  if (r->on_conflict == RESPOOL_CONFLICT_FAIL) {
    *rc = fail(RESPOOL_EXISTS, "item %llu of queue '%.120s' holds this key",
               (unsigned long long)h->id, q->name);
    return false;
  }
  if (r->on_conflict == RESPOOL_CONFLICT_IGNORE) {
    r->first = h->id;
    r->duplicate = true;
    return false;
  }
  if (!end_expired_item(t, q, r, h->id, now) && find_item(t, q, h->id, &l))
    item_remove(t, q, &l, h->id, now);
  return true;
}

/* Is the key in use, once an expired item has ended? Within its window a key
   stays in use. */
static bool key_is_taken(txn *t, queue *q, append_req *r, int64_t now,
                         key_owner *h) {
  return key_in_use(t, q, r->key, now, h) &&
         (h->until > now || !end_expired_item(t, q, r, h->id, now));
}

/* ---- overflow ----------------------------------------------------------- */

static void note_older(uint64_t first, const line *l, uint64_t *id,
                       line *oldest) {
  if (first >= *id) return;
  *id = first;
  *oldest = *l;
}

/* The oldest new item, in `*oldest`; UINT64_MAX: there is none. */
static uint64_t oldest_new(txn *t, const queue *q, line *oldest) {
  uint64_t id = UINT64_MAX;
  for (size_t i = 0; i < q->n_priorities; i++) {
    const priority_state *l = &q->priorities[i];
    line here = {q->id, SPACE_READY, l->priority};
    if (!l->ready) continue;
    note_older(first_unsettled(t, &here, l->head), &here, &id, oldest);
    here.space = SPACE_PARTED;
    if (q->n_partitions)
      note_older(first_listed(t, q, l->priority), &here, &id, oldest);
  }
  return id;
}

static bool drop_oldest(txn *t, queue *q, int64_t now) {
  line here;
  uint64_t id = oldest_new(t, q, &here);
  if (id == UINT64_MAX || t->rc || !item_remove(t, q, &here, id, now))
    return false;
  q->counters.dropped++;
  return true;
}

static int death_of(arena *a, const append_req *r, int64_t now, death *d) {
  *d = (death){.reason = "overflow", .items = 1, .at = now,
               .error = phrase_of("the queue was full"), .memo = r->memo};
  return r->dead ? death_of_push(a, r->dead, now, d) : 0;
}

static void note_number(txn *t, const queue *q, append_req *r,
                        const death *d) {
  const dlq *x = dlq_find(t, d->dlq ? d->dlq : q->config.dlq);
  if (x) r->number = x->next_number - 1;
}

/* The items of a space from `first` on become dead letters. */
static void end_in_space(txn *t, queue *q, append_req *r, int space,
                         uint64_t first, int64_t now) {
  respool_page p;
  page_init(&p);
  line l = {q->id, space, r->priority};
  item_reader c = {.page = &p,
                   .line = l,
                   .from = first,
                   .upto = UINT64_MAX,
                   .want = UINT64_MAX};
  death d;
  txn_fail(t, death_of(&p.memory, r, now, &d));
  while (read_items(t, &c) == READ_BAD_ITEM) continue;
  for (size_t i = 0; i < p.n; i++)
    partition_move(t, q, &l, &p.items[i], COUNT_READY, COUNT_NONE);
  dead_letter_page(t, q, &l, &p, 0, &d);
  priority_count(t, q, r->priority, COUNT_READY, COUNT_NONE, p.n);
  q->counters.died += p.n;
  note_number(t, q, r, &d);
  page_clear(&p);
}

/* Turns a push into dead letters: its items are appended and die at once. */
static int append_dead(txn *t, queue *q, append_req *r, int64_t now) {
  append_req now_due = *r;
  now_due.delay = now_due.at = 0;
  now_due.attempts = 0;
  now_due.memo = (respool_bytes){NULL, 0};
  now_due.ttl = RESPOOL_UNLIMITED;
  int rc = append_items(t, q, &now_due, now);
  if (rc) return rc;
  end_in_space(t, q, r, SPACE_READY, now_due.first, now);
  if (r->builder->parted)
    end_in_space(t, q, r, SPACE_PARTED, now_due.first, now);
  r->first = now_due.first;
  return t->rc;
}

static bool is_full(const queue *q) {
  return !queue_has_room(q, (demand){1, 1});
}

static int append_one_by_one(txn *t, queue *q, append_req *r, int64_t now);

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
  rc = append_one_by_one(t, q, &first, now);
  if (!rc) rc = append_one_by_one(t, q, &rest, now);
  r->first = first.first;
  return rc;
}

/* Items that fit are appended; the others become dead letters. */
static int append_one_by_one(txn *t, queue *q, append_req *r, int64_t now) {
  builder half[2];
  if (has_room(q, r)) return append_items(t, q, r, now);
  if (r->builder->n_items == 1 || is_full(q))
    return append_dead(t, q, r, now);
  builder_init(&half[0], r->builder->version);
  builder_init(&half[1], r->builder->version);
  int rc = append_halves(t, q, r, now, half);
  builder_free(&half[0]);
  builder_free(&half[1]);
  return rc;
}

/* Applies the queue's overflow policy to a push without room. */
static int overflow(txn *t, queue *q, append_req *r, int64_t now) {
  if (q->config.overflow == RESPOOL_OVERFLOW_DEAD && !r->lives)
    return r->partial_ok ? append_one_by_one(t, q, r, now)
                         : append_dead(t, q, r, now);
  if (q->config.overflow != RESPOOL_OVERFLOW_DROP_OLDEST || r->never_fits)
    return no_room(q, r);
  while (!has_room(q, r))
    if (!drop_oldest(t, q, now)) return t->rc ? t->rc : no_room(q, r);
  return append_items(t, q, r, now);
}

/* ---- append ------------------------------------------------------------- */

/* Ends expired items until the push has room. Each step frees at least one
   item that is not leased, so about as many steps as the push has items will
   do. */
static void make_room(txn *t, queue *q, append_req *r, int64_t now) {
  uint64_t left = EXPIRE_MAX + r->builder->n_items, before = t->changes;
  while (left-- > 0 && !has_room(q, r) && expiry_sweep(t, q, now, 1))
    continue;
  r->expired_changes += t->changes - before;
}

static int append_where_room(txn *t, queue *q, append_req *r, int64_t now) {
  r->never_fits = !queue_could_hold(q, builder_demand(r->builder));
  if (!r->never_fits) make_room(t, q, r, now);
  if (t->rc) return t->rc;
  return has_room(q, r) ? append_items(t, q, r, now)
                        : overflow(t, q, r, now);
}

static int append_unique(txn *t, queue *q, append_req *r, int64_t now) {
  key_owner h;
  int rc = 0;
  if (key_is_taken(t, q, r, now, &h) &&
      !resolve_conflict(t, q, r, &h, now, &rc))
    return rc ? rc : t->rc;
  rc = append_where_room(t, q, r, now);
  h = (key_owner){r->first, r->dedup ? time_after(now, r->dedup) : 0};
  if (!rc) key_assign(t, q, r->key, h);
  return rc ? rc : t->rc;
}

/* Does the queue ever take such items? */
static int check_kind(const queue *q, append_req *r) {
  int rc = queue_check_sizes(q, r);
  if (!rc && r->builder->parted && q->config.ordered)
    rc = partitions_unordered(q);
  return rc;
}

int lmdb_fits(txn *t, const char *name, append_req *r) {
  int rc = 0;
  const queue *q = queue_find(t, name, &rc);
  return q ? check_kind(q, r) : rc;
}

static int append_to(txn *t, queue *q, append_req *r, int64_t wall) {
  int rc = check_kind(q, r);
  if (!rc) rc = store_room(t, r);
  if (rc) return rc;
  int64_t now = queue_advance_clock(t, q, wall);
  if (r->dead) return append_dead(t, q, r, now);
  return r->key.size ? append_unique(t, q, r, now)
                     : append_where_room(t, q, r, now);
}

int lmdb_append(txn *t, const char *name, int64_t wall, append_req *r) {
  int rc = 0;
  r->duplicate = r->never_fits = false;
  r->expired_changes = 0;
  queue *q = queue_find(t, name, &rc);
  if (!q) return rc;
  uint64_t before = t->changes;
  t->notices_to = r->notices;
  rc = append_to(t, q, r, wall);
  t->notices_to = NULL;
  r->only_expired = t->changes - before == r->expired_changes;
  return rc;
}

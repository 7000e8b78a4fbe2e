/* SPDX-License-Identifier: MIT */
/*
 * Replay: dead letters become items again, each in the commit that deletes its
 * dead letter. Dead letters in a row that go to the same queue with the same
 * priority and counts are pushed together. An item with a key is pushed
 * by itself.
 */
#include "lmdb/steps/replay.h"

#include "lmdb/dead/dead_cursor.h"
#include "lmdb/dead/dead_letters.h"
#include "lmdb/dead/named_replay.h"
#include "lmdb/queue/state.h"
#include "lmdb/queue/unique_key.h"
#include "lmdb/record/blobs.h"
#include "lmdb/record/item_reader.h"
#include "lmdb/steps/append.h"

#include <stdlib.h>
#include <string.h>

/* Items on their way to one queue. */
typedef struct outgoing {
  notices *notices; /* of dead letters that a full queue makes; or NULL */
  builder items;
  queue *to;
  int priority;
  uint64_t attempts;
  stored_run stored; /* of the dead letters that are added */
  arena memory;
  respool_bytes memo;
  respool_bytes key; /* of its one item; or empty */
  int64_t until;     /* end of the key's window; 0: none */
} outgoing;

static int append_all(txn *t, int64_t wall, outgoing *o) {
  append_req a = {
    .builder = &o->items, .priority = o->priority, .ttl = RESPOOL_KEEP,
    .attempts = o->attempts, .memo = o->memo, .notices = o->notices,
  };
  int rc = builder_finish(&o->items);
  if (!rc && o->items.n_items) rc = lmdb_append(t, o->to->name, wall, &a);
  if (!rc && o->key.size)
    key_assign(t, o->to, o->key, (key_owner){a.first, o->until});
  o->key.size = 0;
  uint64_t version = o->items.version;
  builder_free(&o->items);
  builder_init(&o->items, version);
  return rc;
}

/* Where the dead letters of a stored run go. */
static queue *target(txn *t, const move_req *r, const dead *l, int *rc) {
  char name[RESPOOL_NAME_MAX + 1];
  if (r->to) return queue_find(t, r->to, rc);
  size_t n = l->r.queue.size < sizeof name ? l->r.queue.size : 0;
  if (n) memcpy(name, l->r.queue.data, n);
  name[n] = '\0';
  return queue_find(t, name, rc);
}

/* Sends what there is if the dead letter does not fit it. */
static int turn(txn *t, int64_t wall, const move_req *m, outgoing *o, queue *q,
                const dead *l) {
  uint64_t attempts = m->keep_attempts ? l->r.attempts : 0;
  if (o->to == q && o->priority == l->r.priority && o->attempts == attempts &&
      o->items.version == l->r.version && !o->memo.size && !l->memo.size)
    return 0;
  int rc = append_all(t, wall, o);
  if (!rc) rc = arena_copy(&o->memory, l->memo, &o->memo);
  o->to = q;
  o->priority = l->r.priority;
  o->attempts = attempts;
  o->items.version = l->r.version;
  return rc;
}

static int damaged(uint64_t number, const char *of) {
  return fail(RESPOOL_CORRUPT, "dead letter %llu of DLQ '%.120s' is damaged",
              (unsigned long long)number, of);
}

/* Is a key free, or owned by the item that died? `*until` is the end of its
   window. */
static bool is_free(txn *t, const outgoing *o, const dead *l,
                    respool_bytes name, int64_t wall, int64_t *until) {
  key_owner h;
  *until = 0;
  if (!key_in_use(t, o->to, name, queue_now(o->to, wall), &h)) return true;
  *until = h.until;
  return h.id == l->r.id && phrase_is(l->r.queue, o->to->name);
}

/* An item with a key goes alone. If another item owns the key by now, this
   one goes without. */
static int add_with_key(txn *t, int64_t wall, outgoing *o, const dead *l,
                        item *i) {
  int64_t until;
  if (!is_free(t, o, l, i->key, wall, &until)) {
    i->key.size = 0;
    builder_add(&o->items, i);
    return 0;
  }
  int rc = append_all(t, wall, o);
  builder_add(&o->items, i);
  o->key = i->key;
  o->until = until;
  return rc ? rc : append_all(t, wall, o);
}

static int add(txn *t, int64_t wall, outgoing *o, const dead *l, item *i) {
  if (i->key.size) return add_with_key(t, wall, o, l, i);
  builder_add(&o->items, i);
  return 0;
}

/* Adds an item that is more than a body, or has a blob. */
static int add_whole(txn *t, int64_t wall, outgoing *o, const move_req *req,
                     const respool_move *m, const dead *l) {
  respool_page p;
  item i;
  unpacker u;
  respool_bytes packed;
  page_init(&p);
  unpacker_init(&u, l->item.data, l->item.size);
  int bad = 0, rc = item_read(t, &p, &u, &i, &packed);
  if (rc == ITEM_OK) {
    dead_renew(&i, l, m);
    bad = add(t, wall, o, l, &i);
    blob_ref b = blob_of(l->item);
    if (b.number) blob_del(t, b.number);
  }
  page_clear(&p);
  if (rc == ITEM_BAD) bad = damaged(m->number, req->dlq);
  return bad ? bad : t->rc;
}

static int add_moved(txn *t, int64_t wall, outgoing *o, const move_req *req,
                      const respool_move *m, const dead *l) {
  unpacker u;
  unpacker_init(&u, l->item.data, l->item.size);
  if (!item_is_body(&u)) return add_whole(t, wall, o, req, m, l);
  item i = {.body = unpack_bytes(&u)};
  dead_renew(&i, l, m);
  builder_add(&o->items, &i);
  return u.rc ? damaged(m->number, req->dlq) : t->rc;
}

static int move_one(txn *t, int64_t wall, const move_req *req, outgoing *o,
                    queue *to, const respool_move *m, const dead *stored) {
  dead l;
  if (m->payload) {
    l = *stored;
    l.r.version = m->version;
    stored = &l;
  }
  int rc = turn(t, wall, req, o, to, stored);
  return rc ? rc : add_moved(t, wall, o, req, m, stored);
}

/* May it be one of a damaged run? */
static bool is_among(const stored_run *s, uint64_t number) {
  return number >= dead_first_of(s->last, s->count);
}

/* Moves those of the run that are among `m`, whose numbers rise, and removes
   them; `*n` is how many of `m` it may have. */
static int move_run(txn *t, int64_t wall, move_req *req, dlq *x, outgoing *o,
                    const respool_move *m, size_t n) {
  uint64_t gone[RUN_LETTERS];
  size_t moved = 0;
  int rc = 0;
  dead_reader from;
  respool_bytes v = {o->stored.value.data, o->stored.value.len};
  if (!dead_run_open(key_bytes(&o->stored.key), v, &from))
    return is_among(&o->stored, m[n - 1].number)
               ? damaged(m[n - 1].number, req->dlq) : 0;
  queue *to = NULL;
  for (size_t i = 0; i < n && !rc && dead_run_next(&from);) {
    while (i < n && m[i].number < from.l.r.number) i++;
    if (i == n || m[i].number != from.l.r.number) continue;
    if (!to) to = target(t, req, &from.l, &rc);
    if (to) rc = move_one(t, wall, req, o, to, &m[i], &from.l);
    gone[moved++] = m[i++].number;
  }
  if (!rc)
    dead_run_remove(t, x, &o->stored, (numbers){gone, moved}, BLOBS_STAY);
  req->moved += moved;
  return rc;
}

/* How many of the moves, the first of them at least, rise up to the end of the
   run. */
static size_t count_rising(const respool_move *m, size_t n, uint64_t last) {
  size_t i = 1;
  while (i < n && m[i].number > m[i - 1].number && m[i].number <= last) i++;
  return i;
}

static int move_all(txn *t, int64_t wall, move_req *req, dlq *x, outgoing *o) {
  int rc = 0;
  size_t n;
  for (size_t i = 0; i < req->n && !rc && !t->rc; i += n) {
    const respool_move *m = &req->moves[i];
    n = 1;
    if (!dead_run_find(t, x, m->number, &o->stored)) continue;
    n = count_rising(m, req->n - i, o->stored.last);
    rc = move_run(t, wall, req, x, o, m, n);
  }
  return rc;
}

/* The named replay has counted all dead letters; those that were gone are
   subtracted. */
static int save_replay(txn *t, const move_req *req) {
  respool_replay replay = *req->replay;
  uint64_t gone = req->n - req->moved;
  replay.moved -= gone < replay.moved ? gone : replay.moved;
  return lmdb_replay_save(t, &replay);
}

int lmdb_dead_move(txn *t, int64_t wall, move_req *req) {
  outgoing o = {.notices = req->notices};
  req->moved = 0;
  dlq *x = dlq_find(t, req->dlq);
  builder_init(&o.items, 0);
  int rc = x ? move_all(t, wall, req, x, &o) : 0;
  if (!rc && !t->rc) rc = append_all(t, wall, &o);
  builder_free(&o.items);
  packer_free(&o.stored.value);
  arena_free(&o.memory);
  if (!rc && req->replay) rc = save_replay(t, req);
  return rc ? rc : t->rc;
}

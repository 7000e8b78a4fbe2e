/* SPDX-License-Identifier: MIT */
/*
 * Segments of a salvaged store (see salvage.h) that contradict one another.
 * Sound ones never do. The place of a damaged segment is not sure: where it
 * reaches over the next it is shortened; where it lies in another it moves to
 * the queue for recovered items.
 */
#include "lmdb/repair/conflicts.h"

#include "lmdb/env/txn/cur.h"
#include "lmdb/queue/state.h"
#include "lmdb/record/names.h"
#include "lmdb/record/segments.h"
#include "lmdb/unit/policy.h"

#include <stdio.h>
#include <string.h>

typedef struct conflicts {
  salvage *s;
  txn *t;
  queue *q;
} conflicts;

/* The first segment of a line at or behind a place. */
static bool seek(const conflicts *v, place *p) {
  line l = p->line;
  key k = segment_key(p);
  respool_bytes found, b;
  return txn_seek(v->t, DB_SEGMENTS, key_bytes(&k), &found, &b) &&
         segment_key_read(found, p) && same_line(&p->line, &l);
}

/* Reads the segment at a place, borrowed from the map; false: damaged. */
static bool read_at(const conflicts *v, const place *p, segment *g) {
  key k = segment_key(p);
  respool_bytes b;
  return txn_get(v->t, DB_SEGMENTS, key_bytes(&k), &b) &&
         segment_open(key_bytes(&k), b, g);
}

void salvage_remove_segment(txn *t, const place *p) {
  key k = segment_key(p);
  txn_del(t, DB_SEGMENTS, key_bytes(&k));
  txn_del(t, DB_REMAINING, key_bytes(&k));
}

/* Copies the bytes of a damaged segment to another place. */
static void copy(const conflicts *v, const place *from, const place *to) {
  key k = segment_key(from), n = segment_key(to);
  respool_bytes b, own;
  arena a;
  arena_init(&a);
  if (txn_get(v->t, DB_SEGMENTS, key_bytes(&k), &b)) {
    int rc = arena_copy(&a, b, &own);
    txn_fail(v->t, rc);
    if (!rc) txn_put(v->t, DB_SEGMENTS, key_bytes(&n), own);
  }
  arena_free(&a);
}

/* Moves a damaged segment to another queue, under new ids. */
static void move_to_recovered(const conflicts *v, const place *p) {
  queue *q = salvage_queue(v->s);
  if (!q) return;
  place to = {{q->id, SPACE_READY, p->line.priority}, q->next_id, p->count};
  uint64_t n = count_unsettled(v->t, &p->line, p->first, place_last(p));
  copy(v, p, &to);
  salvage_remove_segment(v->t, p);
  q->next_id += p->count;
  queue_changed(v->t, q);
  v->s->out->nameless += n;
  salvage_say(v->s, "moved: up to %llu items of queue '%.200s' from id %llu "
              "to queue '" SALVAGE_QUEUE "': their ids belong to other "
              "items", ULL(n), v->q->name, ULL(p->first));
}

/* Shortens a damaged segment so that it ends where the next begins. */
static void cut(const conflicts *v, const place *p, uint64_t end) {
  place to = {p->line, p->first, (uint32_t)(end - p->first)};
  if (!to.count) {
    move_to_recovered(v, p);
    return;
  }
  copy(v, p, &to);
  salvage_remove_segment(v->t, p);
}

static void resolve_line(const conflicts *v, const line *l) {
  place p = {*l, 0, 0}, last = {*l, 0, 1};
  bool last_sound = true;
  while (!v->t->rc && seek(v, &p)) {
    segment g;
    place here = p;
    bool sound = read_at(v, &here, &g);
    bool overlaps = here.first <= place_last(&last);
    p.count++; /* the next key */
    if (overlaps && !sound) {
      move_to_recovered(v, &here);
      continue;
    }
    if (overlaps && !last_sound) cut(v, &last, here.first);
    last = here;
    last_sound = sound;
  }
}

/* An item that moved to a segment of its own is settled where it came from,
   even if the bitmap that says so is lost. */
static void resolve_solo(const conflicts *v, const place *p, int space) {
  line l = {p->line.queue, space, p->line.priority};
  segment g;
  if (first_unsettled(v->t, &l, p->first) != p->first) return;
  if (read_at(v, p, &g))
    segments_settle(v->t, v->q, &l, &p->first, 1);
  else
    salvage_remove_segment(v->t, p);
}

static void resolve_solo_line(const conflicts *v, const line *l) {
  place p = {*l, 0, 0};
  while (!v->t->rc && seek(v, &p)) {
    if (IS_PARTED(l)) {
      resolve_solo(v, &p, SPACE_PARTED);
    } else {
      resolve_solo(v, &p, SPACE_READY);
      resolve_solo(v, &p, SPACE_DELAYED);
    }
    p.count++;
  }
}

static void resolve_queue(salvage *s, queue *q) {
  conflicts v = {s, s->t, q};
  for (int space = 0; space < SPACE_COUNT; space++)
    for (int priority = 0; priority < RESPOOL_PRIORITIES; priority++)
      resolve_line(&v, &(line){q->id, space, priority});
  for (int priority = 0; priority < RESPOOL_PRIORITIES; priority++)
    resolve_solo_line(&v, &(line){q->id, SPACE_SOLO, priority});
  for (int priority = 0; priority < RESPOOL_PRIORITIES; priority++)
    resolve_solo_line(&v, &(line){q->id, SPACE_PARTED_SOLO, priority});
}

/* ---- queues ------------------------------------------------------------- */

/* Names a queue whose record is lost by its number; it gets the default
   policy. */
static void name_queue(salvage *s, uint32_t id) {
  static const respool_queue_options none = RESPOOL_QUEUE_OPTIONS_INIT;
  char name[RESPOOL_NAME_MAX + 1];
  int rc;
  snprintf(name, sizeof name, SALVAGE_QUEUE "-%u", id);
  rc = lmdb_queue_open(s->t, name, 0, &none);
  queue *q = rc ? NULL : queue_find(s->t, name, &rc);
  if (!q) return;
  q->id = id;
  s->out->lost_records++;
  salvage_say(s, "lost: the name and policy of a queue, now '%s'", name);
}

/* The next number of a queue that has segments. */
static bool next_queue(salvage *s, uint32_t *id) {
  place from = {{*id + 1, 0, 0}, 0, 0}, p;
  key k = segment_key(&from);
  respool_bytes found, b;
  if (!txn_seek(s->t, DB_SEGMENTS, key_bytes(&k), &found, &b) ||
      !segment_key_read(found, &p))
    return false;
  *id = p.line.queue;
  return true;
}

static void name_queues(salvage *s) {
  for (uint32_t id = 0; next_queue(s, &id) && salvage_commit(s);)
    if (!salvage_has_owner(s, QUEUES, id)) name_queue(s, id);
  salvage_commit(s);
}

static void resolve_named(salvage *s, const char *name) {
  int rc = 0;
  queue *q = queue_find(s->t, name, &rc);
  if (q) resolve_queue(s, q);
}

void salvage_conflicts(salvage *s) {
  if (salvage_commit(s)) name_queues(s);
  if (!s->rc) salvage_each(s, NAMES_QUEUES, resolve_named);
}

/* SPDX-License-Identifier: MIT */
/*
 * The DLQs of a salvaged store (see salvage.h). They come before the queues,
 * whose damaged segments become dead letters.
 */
#include "lmdb/repair/rebuild_dead.h"

#include "lmdb/dead/dead_letters.h"
#include "lmdb/env/txn/cur.h"
#include "lmdb/queue/state.h"
#include "lmdb/record/blobs.h"
#include "lmdb/record/names.h"
#include "lmdb/repair/rebuild_blobs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ids are never reused: raises the next id of a queue, whose record may be an
   old one, above that of a dead letter. */
static void see_id(salvage *s, const dead *l) {
  char name[RESPOOL_NAME_MAX + 1];
  int rc = 0;
  if (!s->hole[DB_QUEUES] || l->r.queue.size >= sizeof name) return;
  memcpy(name, l->r.queue.data, l->r.queue.size);
  name[l->r.queue.size] = '\0';
  queue *q = queue_find(s->t, name, &rc);
  if (!q || l->r.id < q->next_id) return;
  q->next_id = l->r.id + 1;
  queue_changed(s->t, q);
}

/* Deletes a dead letter whose blob is lost; false then. */
static bool keep_dead(salvage *s, cur *c, uint64_t number, const dlq *x) {
  dead l;
  blob_ref b = {0, 0};
  if (dead_unpack(c->key, c->value, &l)) {
    b = blob_of(l.item);
    see_id(s, &l);
  }
  if (!b.number || salvage_has_blob(s, b)) return true;
  s->out->lost_dead_letters++;
  salvage_say(s,
              "lost: dead letter %llu of DLQ '%.200s', whose blob is damaged",
              ULL(number), x->name);
  cur_del(c);
  return false;
}

static void rebuild_dlq(salvage *s, dlq *x) {
  key start = dead_key(x->id, 0);
  uint32_t of;
  uint64_t number = 0, counted = x->count;
  cur c;
  x->count = x->bytes = 0;
  cur_open(&c, s->t, DB_DEAD_LETTERS);
  while (cur_seek(&c, key_bytes(&start)) &&
         dead_key_read(c.key, &of, &number) && of == x->id) {
    uint64_t weight = dead_weight(c.key, c.value);
    if (keep_dead(s, &c, number, x)) {
      x->count++;
      x->bytes += weight;
    }
    start = dead_key(x->id, number + 1);
  }
  cur_close(&c);
  if (number >= x->next_number && x->count) x->next_number = number + 1;
  x->dirty = true;
  s->out->dead_letters += x->count;
  if (x->count == counted || s->hole[DB_DLQS]) return;
  if (x->count < counted) s->fewer_dead_letters += counted - x->count;
  salvage_say(s,
              "counted: DLQ '%.200s' has %llu dead letters, where its record "
              "says %llu", x->name, ULL(x->count), ULL(counted));
}

void salvage_name_dlqs(salvage *s) {
  uint32_t id = 0;
  uint64_t number;
  for (;;) {
    key start = dead_key(id + 1, 0);
    respool_bytes found, v;
    if (!txn_seek(s->t, DB_DEAD_LETTERS, key_bytes(&start), &found, &v) ||
        !dead_key_read(found, &id, &number) || !salvage_commit(s))
      return;
    if (salvage_has_owner(s, DLQS, id)) continue;
    char name[RESPOOL_NAME_MAX + 1];
    snprintf(name, sizeof name, SALVAGE_QUEUE "-%u", id);
    dlq *x = dlq_make(s->t, name);
    if (x) x->id = id;
    s->out->lost_records++;
    salvage_say(s, "lost: the name of a DLQ, now '%s'", name);
  }
}

static void dlq_named(salvage *s, const char *name) {
  dlq *x = dlq_find(s->t, name);
  if (x) rebuild_dlq(s, x);
}

void salvage_dlqs(salvage *s) {
  salvage_each(s, NAMES_DLQS, dlq_named);
}

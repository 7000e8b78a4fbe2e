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

static void lose(salvage *s, const dlq *x, uint64_t number) {
  s->out->lost_dead_letters++;
  salvage_say(s,
              "lost: dead letter %llu of DLQ '%.200s', whose blob is damaged",
              ULL(number), x->name);
}

/* Counts the dead letters of a run, and removes those whose blobs are lost. */
static void rebuild_run(salvage *s, dlq *x, const stored_run *from) {
  uint64_t lost[RUN_LETTERS];
  size_t n = 0;
  dead_reader r;
  respool_bytes v = {from->value.data, from->value.len};
  x->count += from->count;
  x->bytes += dead_run_weight(key_bytes(&from->key), v);
  if (!dead_run_open(key_bytes(&from->key), v, &r)) return;
  while (dead_run_next(&r)) {
    blob_ref b = blob_of(r.l.item);
    see_id(s, &r.l);
    if (!b.number || salvage_has_blob(s, b)) continue;
    lose(s, x, r.l.r.number);
    lost[n++] = r.l.r.number;
  }
  if (n) dead_run_remove(s->t, x, from, (numbers){lost, n}, BLOBS_STAY);
}

static void rebuild_dlq(salvage *s, dlq *x) {
  stored_run from = {.last = 0};
  uint64_t counted = x->count;
  x->count = x->bytes = 0;
  while (dead_run_find(s->t, x, from.last + 1, &from)) rebuild_run(s, x, &from);
  packer_free(&from.value);
  if (from.last >= x->next_number && x->count) x->next_number = from.last + 1;
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
  uint64_t last, count;
  for (;;) {
    key start = dead_key(id + 1, 0, 0);
    respool_bytes found, v;
    if (!txn_seek(s->t, DB_DEAD_LETTERS, key_bytes(&start), &found, &v) ||
        !dead_key_read(found, &id, &last, &count) || !salvage_commit(s))
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

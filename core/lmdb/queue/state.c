/* SPDX-License-Identifier: MIT */
/*
 * The state of queues. A record is loaded once a transaction, changed in
 * memory and stored when the transaction commits, so a group of operations on
 * one queue writes it once. Priorities without items are not stored: a
 * priority's head matters only while it has items.
 */
#include "lmdb/queue/state.h"

#include "lmdb/record/meta.h"

#include <stdlib.h>
#include <string.h>

#define STEP 1000 /* ms; a clock that goes back by less stands still instead */

/* ---- loading and storing ------------------------------------------------ */

static respool_bytes key_of(const char *name) {
  return (respool_bytes){name, strlen(name)};
}

static queue *queue_new(txn *t, const char *name) {
  queue *q = calloc(1, sizeof *q);
  if (!q) {
    txn_fail(t, RESPOOL_NOMEM);
    return NULL;
  }
  strcpy(q->name, name);
  return q;
}

static void queue_link(txn *t, queue *q) {
  q->next = t->queues;
  t->queues = q;
}

static queue *queue_load(txn *t, const char *name) {
  respool_bytes v;
  if (!txn_get(t, DB_QUEUES, key_of(name), &v)) return NULL;
  queue *q = queue_new(t, name);
  if (!q) return NULL;
  queue_link(t, q);
  int rc = queue_unpack(key_of(name), v, q);
  if (rc == RESPOOL_CORRUPT)
    t->rc = fail(rc, "the record of queue '%.120s' is damaged", name);
  txn_fail(t, rc); /* out of memory? */
  return t->rc ? NULL : q;
}

queue *queue_find(txn *t, const char *name, int *rc) {
  for (queue *q = t->queues; q; q = q->next)
    if (!strcmp(q->name, name)) return q;
  queue *q = queue_load(t, name);
  if (q) return q;
  *rc = t->rc ? t->rc
              : fail(RESPOOL_NOT_FOUND, "there is no queue '%.160s'", name);
  return NULL;
}

queue *queue_loaded(txn *t, uint64_t id) {
  queue *q = t->last_queue;
  if (q && q->id == id) return q;
  for (q = t->queues; q && q->id != id; q = q->next) continue;
  t->last_queue = q;
  return q;
}

queue *queue_make(txn *t, const char *name) {
  queue *q = queue_new(t, name);
  if (!q) return NULL;
  queue_link(t, q);
  q->id = (uint32_t)meta_number(t, "last queue");
  q->next_id = q->next_token = 1;
  queue_changed(t, q);
  return q;
}

void queue_changed(txn *t, queue *q) {
  q->dirty = true;
  t->changes++;
}

static void drop_empty_priorities(queue *q) {
  size_t n = 0;
  for (size_t i = 0; i < q->n_priorities; i++) {
    priority_state *l = &q->priorities[i];
    if (priority_items(l)) q->priorities[n++] = *l;
  }
  q->n_priorities = n;
}

void queues_store(txn *t) {
  packer p;
  packer_init(&p);
  for (queue *q = t->queues; q; q = q->next) {
    if (!q->dirty) continue;
    packer_reset(&p);
    drop_empty_priorities(q);
    queue_pack(&p, q);
    record_put(t, DB_QUEUES, key_of(q->name), &p);
    q->dirty = false;
  }
  packer_free(&p);
}

void queues_free(queue *q) {
  while (q) {
    queue *next = q->next;
    queue_clear(q);
    free(q);
    q = next;
  }
}

void queues_forget(txn *t, queue *q) {
  queue **p = &t->queues;
  while (*p != q) p = &(*p)->next;
  *p = q->next;
  t->last_queue = NULL;
  q->next = NULL;
  queues_free(q);
}

/* ---- priorities --------------------------------------------------------- */

priority_state *queue_priority(const queue *q, int priority) {
  for (size_t i = 0; i < q->n_priorities; i++)
    if (q->priorities[i].priority == priority) return &q->priorities[i];
  return NULL;
}

priority_state *queue_priority_make(txn *t, queue *q, int priority) {
  priority_state *l = queue_priority(q, priority);
  if (l) return l;
  priority_state *bigger =
      realloc(q->priorities, (q->n_priorities + 1) * sizeof *l);
  if (!bigger) {
    txn_fail(t, RESPOOL_NOMEM);
    return NULL;
  }
  q->priorities = bigger;
  size_t i = q->n_priorities++;
  for (; i > 0 && bigger[i - 1].priority < priority; i--)
    bigger[i] = bigger[i - 1];
  bigger[i] = (priority_state){.priority = priority, .head = q->next_id};
  return &bigger[i];
}

/* ---- time --------------------------------------------------------------- */

int64_t queue_now(const queue *q, int64_t wall) {
  int64_t now = wall + q->clock_offset;
  return now > q->clock_last ? now : q->clock_last;
}

bool queue_clock_went_back(const queue *q, int64_t wall) {
  return queue_now(q, wall) - (wall + q->clock_offset) >= STEP;
}

/* The queue's time never goes back: when the wall clock does, an offset makes
   up for it, until the queue is empty, also of partitions. Its flow, which may
   outlast its items, goes on by the new time then. */
int64_t queue_advance_clock(txn *t, queue *q, int64_t wall) {
  if (!q->n_priorities && !q->n_partitions && q->clock_offset) {
    if (q->flow) flow_shift(q->flow, wall - queue_now(q, wall));
    q->clock_offset = 0;
    q->clock_last = wall;
    q->clock_reset = true;
    queue_changed(t, q);
  }
  int64_t now = queue_now(q, wall);
  if (queue_clock_went_back(q, wall)) {
    q->clock_offset = now - wall;
    q->counters.clock_steps++;
    queue_changed(t, q);
  }
  q->clock_last = now;
  return now;
}


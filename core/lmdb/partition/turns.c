/* SPDX-License-Identifier: MIT */
/*
 * Who has a turn: a line that has ready items, unless its partition is looked
 * at by time, or something of it is in the way. Turns lie in records of up to
 * some hundred; the first is next. Numbers begin in the middle, as turns may
 * also come before the first.
 */
#include "lmdb/partition/turns.h"

#include "base/array.h"
#include "lmdb/env/txn/cur.h"
#include "lmdb/partition/line.h"
#include "lmdb/partition/set.h"
#include "lmdb/queue/state.h"
#include "record/fields.h"

#include <string.h>

#define TURNS_BYTES 4000 /* of names in one record */
#define TURNS_MIDDLE ((uint64_t)1 << 62) /* the number of the first record */

/* ---- who gets one ------------------------------------------------------- */

void partition_set_due(txn *t, queue *q, partition *p, int64_t at) {
  if (p->due == at) return;
  name_key k = partition_due_key(q->id, p->due, p->name);
  if (p->due) txn_del(t, DB_PARTITION_DUE, name_key_bytes(&k));
  p->due = at;
  if (at) time_comes(&q->parted_from, at);
  k = partition_due_key(q->id, at, p->name);
  if (at) txn_put_null(t, DB_PARTITION_DUE, name_key_bytes(&k));
  partition_changed(t, q, p);
}

bool line_is_blocked(txn *t, const queue *q, const partition *p,
                     const partition_line *l) {
  const queue_config *c = &q->config;
  if (c->partition_concurrency &&
      partition_leased(t, q, p) >= (uint64_t)c->partition_concurrency)
    return true;
  return c->partition_ordered &&
         (l->leased || (p->lone && p->lone_priority == l->priority) ||
          line_first_waiting(t, q, p, l) < ids_first(&l->head));
}

/* Of a partition that is looked at by time: is that over? Else it is looked at
   when its flow says. */
static bool flow_lets_go(txn *t, queue *q, partition *p) {
  queue_config c;
  int64_t due;
  if (!p->flow) return true;
  config_of_partition(&c, &q->config);
  if (flow_allows(p->flow, &c, q->clock_last, &due) > 0) return true;
  partition_set_due(t, q, p, due);
  return false;
}

void turn_give(txn *t, queue *q, partition_turn turn) {
  partition_set *s = q->parted;
  if (!array_grow(&s->given, s->n_given, 1, &s->cap_given,
                  sizeof *s->given)) {
    txn_fail(t, RESPOOL_NOMEM);
    return;
  }
  s->given[s->n_given++] = turn;
  queue_changed(t, q);
}

void partition_line_up(txn *t, queue *q, partition *p) {
  for (size_t i = 0; i < p->n_lines; i++) {
    partition_line *l = &p->lines[i];
    if (l->in_turn || !l->ready || line_is_blocked(t, q, p, l)) continue;
    if (p->due && !flow_lets_go(t, q, p)) return;
    partition_set_due(t, q, p, 0);
    turn_give(t, q, (partition_turn){.of = p, .priority = l->priority});
    l->in_turn = true;
    partition_changed(t, q, p);
  }
}

/* ---- stored ------------------------------------------------------------- */

static size_t turn_size(const partition_turn *x) {
  return x->of ? x->of->name.size + 13 : 9;
}

/* Stores some turns of one priority under a number, and says how many. */
static size_t put_turns(txn *t, const queue *q, const partition_turn *list,
                        size_t n, uint64_t number) {
  key k = turn_key(q->id, list->priority, number);
  packer out;
  size_t size = 0, i = 0;
  while (i < n && (size += turn_size(&list[i])) <= TURNS_BYTES &&
         list[i].priority == list->priority)
    i++;
  packer_init(&out);
  record_begin(&out, 1);
  pack_array(&out, i);
  for (size_t j = 0; j < i; j++) turn_pack(&out, &list[j]);
  record_put(t, DB_TURNS, key_bytes(&k), &out);
  packer_free(&out);
  return i;
}

/* The number behind the last turns of a priority. */
static uint64_t last_number(txn *t, const queue *q, int priority) {
  key k = turn_key(q->id, priority, UINT64_MAX);
  respool_bytes found, v;
  uint32_t of;
  uint64_t number;
  int p;
  if (!txn_floor(t, DB_TURNS, key_bytes(&k), &found, &v) ||
      !turn_key_read(found, &of, &p, &number) || of != q->id || p != priority)
    return TURNS_MIDDLE;
  return number + 1;
}

void turns_store(txn *t, queue *q) {
  partition_set *s = q->parted;
  if (!s) return;
  for (size_t i = 0; i < s->n_given && !t->rc;)
    i += put_turns(t, q, s->given + i, s->n_given - i,
                   last_number(t, q, s->given[i].priority));
  s->n_given = 0;
}

void turns_put_first(txn *t, queue *q, const partition_turn *list, size_t n) {
  while (n && !t->rc) { /* the last ones first */
    size_t size = 0, i = n;
    while (i > 0 && (size += turn_size(&list[i - 1])) <= TURNS_BYTES) i--;
    key k = turn_key(q->id, list->priority, 0);
    respool_bytes found, v;
    uint32_t of;
    uint64_t number = TURNS_MIDDLE;
    int p;
    if (!txn_seek(t, DB_TURNS, key_bytes(&k), &found, &v) ||
        !turn_key_read(found, &of, &p, &number) || of != q->id ||
        p != list->priority)
      number = TURNS_MIDDLE;
    put_turns(t, q, list + i, n - i, number - 1);
    n = i;
  }
}

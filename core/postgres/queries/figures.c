/* SPDX-License-Identifier: MIT */
/*
 * Figures; see figures.h.
 */
#include "postgres/queries/figures.h"

#include <string.h>

static void read_numbers(const PGresult *r, int column, uint64_t *to,
                         size_t n) {
  size_t have = value_count(r, 0, column);
  for (size_t i = 0; i < n; i++)
    to[i] = i < have ? (uint64_t)value_element(r, 0, column, i) : 0;
}

static void read_histogram(const PGresult *r, int column,
                           respool_histogram *h) {
  uint64_t n[2 + RESPOOL_BUCKETS];
  read_numbers(r, column, n, 2 + RESPOOL_BUCKETS);
  h->count = n[0];
  h->sum = n[1];
  memcpy(h->buckets, n + 2, sizeof h->buckets);
}

/* The columns of v1_stat that are numbers of their own, in their order. */
#define FIGURES(X) \
  X(ready) X(leased) X(scheduled) X(retrying) X(dead) X(dead_bytes) \
  X(dead_dropped) X(bytes) X(oldest) \
  X(next_due) X(pushed) X(done) X(died) X(expired) X(removed) X(dropped) \
  X(delivered) X(retried) X(released) X(snoozed) X(crashed) X(lease_lost) \
  X(damaged) X(kept) X(kept_bytes) X(pushed_bytes) X(delivered_bytes)

int look_queue_stat(looking *k) {
  respool_queue_stats *out = k->q->queue_stat;
  values *v = look_ask(k, STATEMENT_STAT);
  put_int4(v, k->queue.id);
  plan_put_wall(&k->p, v);
  int rc = look_run(k);
  if (rc) return rc;
  const PGresult *r = look_answer(k);
  if (!look_rows(k)) return no_queue(k->q->name);
  memset(out, 0, sizeof *out);
  out->paused = value_bool(r, 0, 1);
  int column = 3;
#define READ(f) out->f = (__typeof__(out->f))value_int(r, 0, column++);
  FIGURES(READ)
#undef READ
  read_numbers(r, column++, out->flushes, RESPOOL_FLUSH_REASONS);
  read_numbers(r, column++, out->died_by, RESPOOL_DEATHS);
  read_histogram(r, column++, &out->wait);
  read_histogram(r, column++, &out->handle);
  out->partitions = (uint64_t)value_int(r, 0, column);
  return 0;
}

int look_store_stat(looking *k) {
  respool_store_stats *out = k->q->store_stat;
  look_ask(k, STATEMENT_STORE);
  int rc = look_run(k);
  if (rc) return rc;
  respool_bytes id = value_bytes(look_answer(k), 0, 0);
  size_t n = id.size < sizeof out->id ? id.size : sizeof out->id - 1;
  if (n) memcpy(out->id, id.data, n);
  out->id[n] = '\0';
  out->file_bytes = out->used_bytes = (uint64_t)value_int(look_answer(k), 0, 1);
  out->last_txn = (uint64_t)value_int(look_answer(k), 0, 2);
  out->snapshot_age = value_int(look_answer(k), 0, 3);
  out->dead_rows = (uint64_t)value_int(look_answer(k), 0, 4);
  out->available_bytes = RESPOOL_UNLIMITED;
  pthread_mutex_lock(&k->e->lock);
  out->commits = k->e->took;
  out->commit_operations = k->e->operations;
  pthread_mutex_unlock(&k->e->lock);
  return 0;
}

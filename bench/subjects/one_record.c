/* SPDX-License-Identifier: MIT */
/*
 * The straightforward queue on LMDB: one record an item, and a durable lease
 * mark an item. A group is three transactions: put the items; read them and
 * put a mark for each; delete both. Items are keyed by a rising number and
 * appended, which is LMDB's fastest way in. The head is kept in memory.
 */
#include <lmdb.h>
#include <string.h>
#include <time.h>

#include "bench.h"

typedef struct lease {
  int64_t visible_at;
  uint64_t token;
} lease;

typedef struct table {
  bench b;
  MDB_env *env;
  MDB_dbi items, leases;
  uint64_t tail, head, token; /* next to push, to take, to deliver */
} table;

static void must(int rc, const char *what) {
  if (rc != 0)
    bench_die("%s: %s", what, mdb_strerror(rc));
}

static MDB_txn *begin(table *q) {
  MDB_txn *t;
  must(mdb_txn_begin(q->env, NULL, 0, &t), "begin");
  return t;
}

static void open_table(table *q) {
  must(mdb_env_create(&q->env), "create");
  must(mdb_env_set_mapsize(q->env, (size_t)16 << 30), "mapsize");
  must(mdb_env_set_maxdbs(q->env, 2), "maxdbs");
  must(mdb_env_open(q->env, q->b.dir, 0, 0644), "open");
  MDB_txn *t = begin(q);
  unsigned flags = MDB_CREATE | MDB_INTEGERKEY;
  must(mdb_dbi_open(t, "items", flags, &q->items), "items");
  must(mdb_dbi_open(t, "leases", flags, &q->leases), "leases");
  must(mdb_txn_commit(t), "commit");
}

static void put_item(table *q, MDB_txn *t, const uint8_t *item) {
  uint64_t id = q->tail++;
  MDB_val k = { sizeof id, &id };
  MDB_val v = { q->b.size, (void *)(uintptr_t)item };
  must(mdb_put(t, q->items, &k, &v, MDB_APPEND), "put");
}

static void push(void *arg) {
  table *q = arg;
  const uint8_t *group = bench_stamp(&q->b, q->b.bytes, q->tail);
  MDB_txn *t = begin(q);
  for (size_t i = 0; i < q->b.group; i++)
    put_item(q, t, group + i * q->b.size);
  must(mdb_txn_commit(t), "push");
}

static void put_lease(table *q, MDB_txn *t, uint64_t id, int64_t until) {
  lease mark = { until, ++q->token };
  MDB_val k = { sizeof id, &id }, v = { sizeof mark, &mark };
  must(mdb_put(t, q->leases, &k, &v, MDB_APPEND), "lease");
}

/* Copies a group out under leases, as a consumer would. */
static void take(table *q) {
  int64_t until = (int64_t)time(NULL) + 30;
  MDB_txn *t = begin(q);
  MDB_cursor *c;
  must(mdb_cursor_open(t, q->items, &c), "cursor");
  MDB_val k = { sizeof q->head, &q->head }, v;
  MDB_cursor_op op = MDB_SET;
  for (size_t i = 0; i < q->b.group; i++, op = MDB_NEXT) {
    must(mdb_cursor_get(c, &k, &v, op), "take");
    bench_expect(&q->b, v.mv_data, v.mv_size, q->head + i);
    memcpy(q->b.batch + i * q->b.size, v.mv_data, v.mv_size);
    put_lease(q, t, q->head + i, until);
  }
  mdb_cursor_close(c);
  must(mdb_txn_commit(t), "take");
}

static void done(table *q) {
  MDB_txn *t = begin(q);
  for (size_t i = 0; i < q->b.group; i++, q->head++) {
    MDB_val k = { sizeof q->head, &q->head };
    must(mdb_del(t, q->leases, &k, NULL), "done");
    must(mdb_del(t, q->items, &k, NULL), "done");
  }
  must(mdb_txn_commit(t), "done");
}

static void drain(void *q) {
  take(q);
  done(q);
}

int main(int argc, char **argv) {
  table q = { .token = 0 };
  bench_init(&q.b, argc, argv);
  open_table(&q);
  bench_round(&q.b, &q, push, drain);
  mdb_env_close(q.env);
  bench_free(&q.b);
  return 0;
}

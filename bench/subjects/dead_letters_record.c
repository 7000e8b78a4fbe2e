/* SPDX-License-Identifier: MIT */
/*
 * The straightforward replay on LMDB: one record a dead letter. --items dead
 * letters are moved to the items under new numbers, a durable commit each
 * --group.
 */
#include <lmdb.h>

#include "bench.h"

typedef struct dlq {
  bench b;
  MDB_env *env;
  MDB_dbi dead_letters, items;
} dlq;

static void must(int rc, const char *what) {
  if (rc != 0)
    bench_die("%s: %s", what, mdb_strerror(rc));
}

static MDB_txn *begin(dlq *x) {
  MDB_txn *t;
  must(mdb_txn_begin(x->env, NULL, 0, &t), "begin");
  return t;
}

static void open_dlq(dlq *x) {
  unsigned flags = MDB_CREATE | MDB_INTEGERKEY;
  must(mdb_env_create(&x->env), "create");
  must(mdb_env_set_mapsize(x->env, (size_t)16 << 30), "mapsize");
  must(mdb_env_set_maxdbs(x->env, 2), "maxdbs");
  must(mdb_env_open(x->env, x->b.dir, 0, 0644), "open");
  MDB_txn *t = begin(x);
  must(mdb_dbi_open(t, "letters", flags, &x->dead_letters), "letters");
  must(mdb_dbi_open(t, "items", flags, &x->items), "items");
  must(mdb_txn_commit(t), "commit");
}

static void put(MDB_txn *t, MDB_dbi dbi, uint64_t id, MDB_val *v) {
  MDB_val k = { sizeof id, &id };
  must(mdb_put(t, dbi, &k, v, MDB_APPEND), "put");
}

static void make_dead_letters(dlq *x) {
  for (uint64_t n = 0; n < x->b.items; n += x->b.group) {
    const uint8_t *group = bench_stamp(&x->b, x->b.bytes, n);
    MDB_txn *t = begin(x);
    for (size_t i = 0; i < x->b.group; i++) {
      MDB_val v = { x->b.size, (void *)(uintptr_t)(group + i * x->b.size) };
      put(t, x->dead_letters, n + i, &v);
    }
    must(mdb_txn_commit(t), "commit");
  }
}

static void move(dlq *x, MDB_txn *t, uint64_t number) {
  MDB_val k = { sizeof number, &number }, v;
  must(mdb_get(t, x->dead_letters, &k, &v), "get");
  bench_expect(&x->b, v.mv_data, v.mv_size, number);
  put(t, x->items, number, &v);
  must(mdb_del(t, x->dead_letters, &k, NULL), "del");
}

static void replay(dlq *x) {
  for (uint64_t n = 0; n < x->b.items; n += x->b.group) {
    MDB_txn *t = begin(x);
    for (size_t i = 0; i < x->b.group; i++)
      move(x, t, n + i);
    must(mdb_txn_commit(t), "commit");
  }
}

int main(int argc, char **argv) {
  dlq x = { .env = NULL };
  bench_init(&x.b, argc, argv);
  open_dlq(&x);
  make_dead_letters(&x);
  bench_start(&x.b);
  replay(&x);
  bench_stop(&x.b, x.b.items);
  mdb_env_close(x.env);
  bench_free(&x.b);
  return 0;
}

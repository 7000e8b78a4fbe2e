/* SPDX-License-Identifier: MIT */
/*
 * What one durable push costs. First by turns in two stores: a push of one
 * item, and a bare LMDB commit of the same bytes under a rising key, as
 * durable. Then the pushes a second of one thread, and of --producers
 * threads that push into one queue at the same time.
 */
#include <errno.h>
#include <inttypes.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bench.h"
#include "respool.h"

enum { MOST = 20000, THREADS = 256 };

typedef struct pair {
  bench b;
  respool *store;
  respool_queue *queue;
  MDB_env *env;
  MDB_dbi dbi;
  uint64_t key;
  atomic_ullong pushed;
} pair;

static void must(int rc, const char *what) {
  if (rc != 0)
    bench_die("%s: %s: %s", what, respool_errname(rc), respool_error_text());
}

static void must_bare(int rc, const char *what) {
  if (rc != 0)
    bench_die("%s: %s", what, mdb_strerror(rc));
}

static const char *subdir(const bench *b, const char *name) {
  const char *path = bench_path(b, name);
  if (mkdir(path, 0755) != 0)
    bench_die("%s: %s", path, strerror(errno));
  return path;
}

static void open_bare(pair *p) {
  MDB_txn *t;
  must_bare(mdb_env_create(&p->env), "create");
  must_bare(mdb_env_set_mapsize(p->env, (size_t)1 << 30), "mapsize");
  must_bare(mdb_env_open(p->env, subdir(&p->b, "bare"), 0, 0644), "open");
  must_bare(mdb_txn_begin(p->env, NULL, 0, &t), "begin");
  must_bare(mdb_dbi_open(t, NULL, MDB_INTEGERKEY, &p->dbi), "dbi");
  must_bare(mdb_txn_commit(t), "commit");
}

static void open_pair(pair *p) {
  must(respool_open(subdir(&p->b, "store"), NULL, &p->store), "open");
  must(respool_queue_open(p->store, "bench", NULL, &p->queue), "queue");
  open_bare(p);
}

static void push(pair *p) {
  respool_payload item = { .body = { p->b.bytes, p->b.size } };
  must(respool_push(p->queue, &item, 1, NULL, NULL), "push");
}

static void push_bare(pair *p) {
  uint64_t key = p->key++;
  MDB_txn *t;
  MDB_val k = { sizeof key, &key }, v = { p->b.size, p->b.bytes };
  must_bare(mdb_txn_begin(p->env, NULL, 0, &t), "begin");
  must_bare(mdb_put(t, p->dbi, &k, &v, MDB_APPEND), "put");
  must_bare(mdb_txn_commit(t), "commit");
}

static int64_t timed(pair *p, void (*verb)(pair *p)) {
  int64_t began = bench_now();
  verb(p);
  return bench_now() - began;
}

static void by_turns(pair *p) {
  static int64_t mine[MOST], bare[MOST];
  size_t n = 0;
  bench_start(&p->b);
  for (; n < MOST && bench_goes_on(&p->b, n); n++) {
    mine[n] = timed(p, push);
    bare[n] = timed(p, push_bare);
  }
  printf("push_ns %" PRId64 "\n", bench_median(mine, n));
  printf("bare_ns %" PRId64 "\n", bench_median(bare, n));
}

static void *push_on(void *arg) {
  pair *p = arg;
  while (bench_goes_on(&p->b, p->pushed)) {
    push(p);
    p->pushed++;
  }
  return NULL;
}

static uint64_t commits(pair *p) {
  respool_store_stats stats = RESPOOL_STORE_STATS_INIT;
  must(respool_store_stat(p->store, &stats), "stat");
  return stats.last_txn;
}

static double pushes_a_second(pair *p, int n) {
  pthread_t threads[THREADS];
  p->pushed = 0;
  bench_start(&p->b);
  for (int i = 0; i < n; i++)
    if (pthread_create(&threads[i], NULL, push_on, p) != 0)
      bench_die("no thread");
  for (int i = 0; i < n; i++)
    pthread_join(threads[i], NULL);
  return (double)p->pushed * 1e9 / (double)(bench_now() - p->b.wall);
}

int main(int argc, char **argv) {
  pair p = { .key = 0 };
  bench_init(&p.b, argc, argv);
  open_pair(&p);
  by_turns(&p);
  printf("one_thread %.0f\n", pushes_a_second(&p, 1));
  uint64_t before = commits(&p);
  if (p.b.producers > 0) {
    printf("all_threads %.0f\n", pushes_a_second(&p, p.b.producers));
    printf("pushes_a_commit %.1f\n",
           (double)p.pushed / (double)(commits(&p) - before));
  }
  mdb_env_close(p.env);
  respool_queue_free(p.queue);
  respool_close(p.store);
  bench_free(&p.b);
  return 0;
}

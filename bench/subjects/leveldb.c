/* SPDX-License-Identifier: MIT */
/*
 * A queue on LevelDB: one record an item, and a durable lease mark an item. A
 * group is three synced batches: put the items; walk over them and put a mark
 * for each; delete both. The head is kept in memory, which spares the walk
 * over what was deleted.
 */
#include <leveldb/c.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench.h"

enum { KEY = 9 }; /* a letter and a number, big-endian */

typedef struct lease {
  int64_t visible_at;
  uint64_t token;
} lease;

typedef struct table {
  bench b;
  leveldb_t *db;
  leveldb_writebatch_t *group;
  leveldb_writeoptions_t *synced;
  leveldb_readoptions_t *reading;
  uint64_t tail, head, token; /* next to push, to take, to deliver */
} table;

static void must(char *error, const char *what) {
  if (error != NULL)
    bench_die("%s: %s", what, error);
}

static const char *key_of(char *key, char kind, uint64_t id) {
  key[0] = kind;
  for (int i = 0; i < 8; i++) key[1 + i] = (char)(id >> (56 - 8 * i));
  return key;
}

static void open_table(table *q) {
  char *error = NULL;
  leveldb_options_t *o = leveldb_options_create();
  leveldb_options_set_create_if_missing(o, 1);
  leveldb_options_set_write_buffer_size(o, (size_t)64 << 20);
  leveldb_options_set_compression(o, leveldb_no_compression);
  q->db = leveldb_open(o, bench_path(&q->b, "items"), &error);
  must(error, "open");
  leveldb_options_destroy(o);
  q->group = leveldb_writebatch_create();
  q->reading = leveldb_readoptions_create();
  q->synced = leveldb_writeoptions_create();
  leveldb_writeoptions_set_sync(q->synced, 1);
}

static void commit(table *q, const char *what) {
  char *error = NULL;
  leveldb_write(q->db, q->synced, q->group, &error);
  must(error, what);
  leveldb_writebatch_clear(q->group);
}

static void push(void *arg) {
  table *q = arg;
  char key[KEY];
  const uint8_t *item = bench_stamp(&q->b, q->b.bytes, q->tail);
  for (size_t i = 0; i < q->b.group; i++, item += q->b.size)
    leveldb_writebatch_put(q->group, key_of(key, 'i', q->tail++), KEY,
                           (const char *)item, q->b.size);
  commit(q, "push");
}

static void put_lease(table *q, uint64_t id, int64_t until) {
  lease mark = { until, ++q->token };
  char key[KEY];
  leveldb_writebatch_put(q->group, key_of(key, 'l', id), KEY,
                         (const char *)&mark, sizeof mark);
}

/* Copies a group out under leases, as a consumer would. */
static void take(table *q) {
  int64_t until = (int64_t)time(NULL) + 30;
  char key[KEY];
  leveldb_iterator_t *at = leveldb_create_iterator(q->db, q->reading);
  leveldb_iter_seek(at, key_of(key, 'i', q->head), KEY);
  for (size_t i = 0; i < q->b.group; i++, leveldb_iter_next(at)) {
    size_t size;
    if (!leveldb_iter_valid(at))
      bench_die("take: an item is missing");
    const char *body = leveldb_iter_value(at, &size);
    bench_expect(&q->b, body, size, q->head + i);
    memcpy(q->b.batch + i * q->b.size, body, size);
    put_lease(q, q->head + i, until);
  }
  leveldb_iter_destroy(at);
  commit(q, "take");
}

static void done(table *q) {
  char key[KEY];
  for (size_t i = 0; i < q->b.group; i++, q->head++) {
    leveldb_writebatch_delete(q->group, key_of(key, 'l', q->head), KEY);
    leveldb_writebatch_delete(q->group, key_of(key, 'i', q->head), KEY);
  }
  commit(q, "done");
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
  leveldb_writeoptions_destroy(q.synced);
  leveldb_readoptions_destroy(q.reading);
  leveldb_writebatch_destroy(q.group);
  leveldb_close(q.db);
  bench_free(&q.b);
  return 0;
}

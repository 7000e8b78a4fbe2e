/* SPDX-License-Identifier: MIT */
/*
 * respool through its C API. On one thread: push a group, take it under a
 * lease, settle it as done, each with its flush. With --producers and
 * --consumers, pipelined: each producer pushes group after group and goes on
 * when its push is on disk; each consumer settles one batch and takes the next
 * in the same commit, without waiting for the flush (DESIGN's "One flush a
 * group"). Producers stay at most AHEAD groups each ahead of the consumers,
 * so that both run at the pace of the slower. The measured part ends with a
 * flush, when as much was consumed as was pushed in it; then the backlog is
 * drained, and every item must have come exactly once.
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "bench.h"
#include "respool.h"

enum { AHEAD = 4, PATIENCE = 10 /* ms */ };

typedef struct life {
  bench b;
  respool *store;
  respool_queue *queue;
  uint64_t tail, head;      /* one thread: next to push, to be taken */
  atomic_ullong drawn;      /* ordinals that a producer took */
  atomic_ullong pushed;     /* in the measured part */
  atomic_ullong consumed;
  atomic_int producing;     /* producers still at it */
  atomic_flag over;         /* the measured part */
  atomic_bool stopped;
  atomic_ullong *seen;      /* a bit an ordinal */
  sem_t room;               /* groups that may be pushed */
} life;

/* One group to be pushed, over bytes of its own. */
typedef struct group {
  uint8_t *bytes;
  respool_payload *items;
} group;

static void must(int rc, const char *what) {
  if (rc != 0)
    bench_die("%s: %s: %s", what, respool_errname(rc), respool_error_text());
}

static void group_init(group *g, const bench *b, uint8_t *bytes) {
  g->bytes = bytes;
  g->items = calloc(b->group, sizeof *g->items);
  if (g->items == NULL)
    bench_die("not enough memory for a group");
  for (size_t i = 0; i < b->group; i++)
    g->items[i].body = (respool_bytes){ bytes + i * b->size, b->size };
}

static void push_group(life *q, const group *g, uint64_t first) {
  bench_stamp(&q->b, g->bytes, first);
  must(respool_push(q->queue, g->items, q->b.group, NULL, NULL), "push");
}

static respool_take_options one_group(const life *q, int64_t wait) {
  respool_take_options o = RESPOOL_TAKE_OPTIONS_INIT;
  o.items = q->b.group;
  o.wait = wait;
  return o;
}

static respool_batch *take(life *q, int64_t wait) {
  respool_take_options o = one_group(q, wait);
  respool_batch *batch;
  must(respool_take(q->queue, &o, &batch), "take");
  return batch;
}

static void mark_done(respool_batch *batch) {
  respool_outcome done = RESPOOL_OUTCOME_INIT;
  done.kind = RESPOOL_DONE;
  must(respool_batch_mark_rest(batch, &done), "mark");
}


/* One thread. */

typedef struct alone {
  life *q;
  group g;
} alone;

static void push(void *arg) {
  alone *a = arg;
  push_group(a->q, &a->g, a->q->tail);
  a->q->tail += a->q->b.group;
}

static void consume_in_order(life *q, respool_batch *batch) {
  for (size_t i = 0; i < respool_batch_length(batch); i++) {
    respool_bytes body = respool_batch_item(batch, i)->body;
    bench_expect(&q->b, body.data, body.size, q->head++);
  }
}

static void drain(void *arg) {
  life *q = ((alone *)arg)->q;
  uint64_t until = q->head + q->b.group;
  while (q->head < until) {
    respool_batch *batch = take(q, 0);
    if (batch == NULL)
      bench_die("nothing to take at item %llu", (unsigned long long)q->head);
    consume_in_order(q, batch);
    mark_done(batch);
    must(respool_batch_settle(batch, NULL, NULL), "settle");
    respool_batch_free(batch);
  }
}

static void round_alone(life *q) {
  alone a = { q, { NULL, NULL } };
  group_init(&a.g, &q->b, q->b.bytes);
  bench_round(&q->b, &a, push, drain);
  free(a.g.items);
}


/* Pipelined. */

/* The measured part ends once; what was committed in it gets its flush. */
static void end_if_over(life *q) {
  if (q->producing > 0 || q->consumed < q->pushed)
    return;
  if (atomic_flag_test_and_set(&q->over))
    return;
  must(respool_flush(q->store), "flush");
  bench_stop(&q->b, q->pushed);
  q->stopped = true;
}

static void *produce(void *arg) {
  life *q = arg;
  group g;
  group_init(&g, &q->b, bench_bytes(&q->b));
  while (bench_goes_on(&q->b, q->pushed)) {
    sem_wait(&q->room);
    push_group(q, &g, atomic_fetch_add(&q->drawn, q->b.group));
    q->pushed += q->b.group;
  }
  q->producing--;
  end_if_over(q);
  free(g.items);
  free(g.bytes);
  return NULL;
}

static void see(life *q, uint64_t stamp) {
  uint64_t bit = UINT64_C(1) << stamp % 64;
  if (stamp >= q->drawn)
    bench_die("item %llu was never pushed", (unsigned long long)stamp);
  if (atomic_fetch_or(&q->seen[stamp / 64], bit) & bit)
    bench_die("item %llu came twice", (unsigned long long)stamp);
}

static void consume(life *q, respool_batch *batch) {
  for (size_t i = 0; i < respool_batch_length(batch); i++) {
    respool_bytes body = respool_batch_item(batch, i)->body;
    see(q, bench_read(&q->b, body.data, body.size));
  }
  mark_done(batch);
}

/* Settles a batch; the next one comes with it, when there is one. */
static respool_batch *hand_in(life *q, respool_batch *batch, bool more) {
  respool_take_options t = one_group(q, 0);
  respool_settle_options o = RESPOOL_SETTLE_OPTIONS_INIT;
  respool_batch *next = NULL;
  o.take = more ? &t : NULL;
  o.no_wait = 1;
  must(respool_batch_settle(batch, &o, &next), "settle");
  respool_batch_free(batch);
  return next;
}

/* Counts a lot of `n`, and lets a group be pushed for each that went. */
static void count(life *q, uint64_t n) {
  uint64_t before = atomic_fetch_add(&q->consumed, n);
  uint64_t groups = (before + n) / q->b.group - before / q->b.group;
  for (; groups > 0; groups--)
    sem_post(&q->room);
}

static void *work(void *arg) {
  life *q = arg;
  respool_batch *batch = NULL;
  while (batch != NULL || !q->stopped) {
    if (batch == NULL && (batch = take(q, PATIENCE)) == NULL)
      continue;
    uint64_t n = respool_batch_length(batch);
    consume(q, batch);
    batch = hand_in(q, batch, !q->stopped);
    count(q, n);
    end_if_over(q);
  }
  return NULL;
}

static void push_backlog(life *q) {
  group g;
  group_init(&g, &q->b, q->b.bytes);
  for (; q->drawn < q->b.backlog; q->drawn += q->b.group)
    push_group(q, &g, q->drawn);
  free(g.items);
}

/* Drains what is left; then every item that was pushed has been seen. */
static void check_all(life *q) {
  respool_batch *batch;
  while ((batch = take(q, 0)) != NULL) {
    consume(q, batch);
    hand_in(q, batch, false);
  }
  for (uint64_t i = 0; i < q->drawn; i++)
    if (!(q->seen[i / 64] >> i % 64 & 1))
      bench_die("item %llu is missing", (unsigned long long)i);
}

static void start(pthread_t *t, void *(*body)(void *), life *q) {
  if (pthread_create(t, NULL, body, q) != 0)
    bench_die("no thread");
}

static void run_threads(life *q) {
  int n = q->b.producers + q->b.consumers;
  pthread_t threads[512];
  q->producing = q->b.producers;
  sem_init(&q->room, 0, (unsigned)(AHEAD * q->b.producers));
  bench_start(&q->b);
  for (int i = 0; i < n; i++)
    start(&threads[i], i < q->b.producers ? produce : work, q);
  for (int i = 0; i < n; i++)
    pthread_join(threads[i], NULL);
  sem_destroy(&q->room);
}

static void round_of_many(life *q) {
  /* each producer may draw a group beyond the last */
  uint64_t most = q->b.items + q->b.backlog +
                  (uint64_t)q->b.producers * q->b.group;
  q->seen = calloc(most / 64 + 1, sizeof *q->seen);
  if (q->seen == NULL)
    bench_die("not enough memory for the check");
  push_backlog(q);
  run_threads(q);
  check_all(q);
  free(q->seen);
}

int main(int argc, char **argv) {
  life q = { .over = ATOMIC_FLAG_INIT };
  bench_init(&q.b, argc, argv);
  must(respool_open(q.b.dir, NULL, &q.store), "open");
  must(respool_queue_open(q.store, "bench", NULL, &q.queue), "queue");
  if (q.b.producers > 0)
    round_of_many(&q);
  else
    round_alone(&q);
  respool_queue_free(q.queue);
  respool_close(q.store);
  bench_free(&q.b);
  return 0;
}

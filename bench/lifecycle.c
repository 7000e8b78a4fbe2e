/* SPDX-License-Identifier: MIT */
/*
 * respool through its C API. On one thread: push a group, take it under a
 * lease, settle it as done, each with its flush. With --threads 2: a
 * producer pushes, a consumer settles one lot and takes the next in the same
 * commit, without waiting for the flush (DESIGN's "One flush a group"); it
 * flushes when it stops. The producer stays at most AHEAD groups ahead, so
 * that both run at the pace of the slower.
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>

#include "bench.h"
#include "respool.h"

enum { AHEAD = 16 };

typedef struct life {
  bench b;
  respool *store;
  respool_queue *queue;
  respool_payload *items; /* one group, over b.bytes */
  uint64_t tail, head;    /* next ordinal to push, to be taken */
  sem_t room;             /* groups the producer may push */
} life;

static void must(int rc, const char *what) {
  if (rc != 0)
    bench_die("%s: %s: %s", what, respool_errname(rc), respool_error_text());
}

static void open_life(life *q) {
  must(respool_open(q->b.dir, NULL, &q->store), "open");
  must(respool_queue_open(q->store, "bench", NULL, &q->queue), "queue");
  q->items = calloc(q->b.group, sizeof *q->items);
  if (q->items == NULL)
    bench_die("not enough memory for a group");
  for (size_t i = 0; i < q->b.group; i++)
    q->items[i].body =
      (respool_bytes){ q->b.bytes + i * q->b.size, q->b.size };
}

static void close_life(life *q) {
  free(q->items);
  respool_queue_free(q->queue);
  respool_close(q->store);
}

static void push(void *arg) {
  life *q = arg;
  uint64_t first;
  bench_group(&q->b, q->tail);
  must(respool_push(q->queue, q->items, q->b.group, NULL, &first), "push");
  q->tail += q->b.group;
}

static respool_take_options one_group(const life *q, int64_t wait) {
  respool_take_options o = RESPOOL_TAKE_OPTIONS_INIT;
  o.items = q->b.group;
  o.wait = wait;
  return o;
}

/* Looks at every item of a lot and says that it is done. */
static void consume(life *q, respool_lot *lot) {
  respool_outcome done = RESPOOL_OUTCOME_INIT;
  done.verdict = RESPOOL_DONE;
  for (size_t i = 0; i < respool_lot_length(lot); i++) {
    respool_bytes body = respool_lot_item(lot, i)->body;
    bench_expect(&q->b, body.data, body.size, q->head++);
  }
  must(respool_lot_mark_rest(lot, &done), "mark");
}

static respool_lot *take(life *q, int64_t wait) {
  respool_take_options o = one_group(q, wait);
  respool_lot *lot;
  must(respool_take(q->queue, &o, &lot), "take");
  if (lot == NULL)
    bench_die("nothing to take at item %llu", (unsigned long long)q->head);
  return lot;
}

static void drain(void *arg) {
  life *q = arg;
  uint64_t until = q->head + q->b.group;
  while (q->head < until) {
    respool_lot *lot = take(q, 0);
    consume(q, lot);
    must(respool_lot_settle(lot, NULL, NULL), "settle");
    respool_lot_free(lot);
  }
}

static void *produce(void *arg) {
  life *q = arg;
  uint64_t until = q->tail + q->b.items;
  while (q->tail < until) {
    sem_wait(&q->room);
    push(q);
  }
  return NULL;
}

/* Settles a lot; the next one comes with it, when there is one. */
static respool_lot *hand_in(life *q, respool_lot *lot) {
  respool_take_options more = one_group(q, 0);
  respool_settle_options o = RESPOOL_SETTLE_OPTIONS_INIT;
  respool_lot *next;
  o.take = &more;
  o.no_wait = 1;
  must(respool_lot_settle(lot, &o, &next), "settle");
  respool_lot_free(lot);
  return next;
}

/* Lets the producer push a group for each that was consumed. */
static void make_room(life *q, uint64_t before) {
  uint64_t n = q->head / q->b.group - before / q->b.group;
  for (; n > 0; n--)
    sem_post(&q->room);
}

static void *work(void *arg) {
  life *q = arg;
  respool_lot *lot = NULL;
  uint64_t until = q->head + q->b.items;
  while (q->head < until) {
    uint64_t before = q->head;
    if (lot == NULL)
      lot = take(q, 10000);
    consume(q, lot);
    lot = hand_in(q, lot);
    make_room(q, before);
  }
  must(respool_flush(q->store), "flush");
  respool_lot_free(lot); /* of the backlog: its lease runs out */
  return NULL;
}

static void start(pthread_t *t, void *(*body)(void *), life *q) {
  if (pthread_create(t, NULL, body, q) != 0)
    bench_die("no thread");
}

static void round_of_two(life *q) {
  pthread_t producer, consumer;
  sem_init(&q->room, 0, AHEAD);
  for (uint64_t n = 0; n < q->b.backlog; n += q->b.group)
    push(q);
  bench_start(&q->b);
  start(&producer, produce, q);
  start(&consumer, work, q);
  pthread_join(producer, NULL);
  pthread_join(consumer, NULL);
  bench_stop(&q->b);
  sem_destroy(&q->room);
}

int main(int argc, char **argv) {
  life q = { .tail = 0 };
  bench_init(&q.b, argc, argv);
  open_life(&q);
  if (q.b.threads == 2)
    round_of_two(&q);
  else
    bench_round(&q.b, &q, push, drain);
  close_life(&q);
  bench_free(&q.b);
  return 0;
}

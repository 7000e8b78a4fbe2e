/* SPDX-License-Identifier: MIT */
/*
 * How large the file of a store becomes. It is filled to --backlog items of
 * sizes from tiny to larger than a segment, drained to almost nothing with
 * mixed outcomes, and filled again, over and over for --seconds; every tenth
 * item is retried with a delay, and so lies by itself for a while. Prints
 * the most bytes of payload that were live at once, and the file's size.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "bench.h"
#include "respool.h"

enum { LEAST_ROUNDS = 3, LARGEST = 65536 };

typedef struct churn {
  bench b;
  respool *store;
  respool_queue *queue;
  respool_payload *items;
  uint8_t *bytes;
  uint64_t live, most;  /* bytes of payload */
  uint64_t n;           /* items */
  uint64_t x;           /* the random state */
} churn;

static void must(int rc, const char *what) {
  if (rc != 0)
    bench_die("%s: %s: %s", what, respool_errname(rc), respool_error_text());
}

static uint64_t chance(churn *c, uint64_t n) {
  c->x ^= c->x << 13;
  c->x ^= c->x >> 7;
  c->x ^= c->x << 17;
  return c->x % n;
}

/* Most are small, some of a page or so, one in a thousand is a blob. */
static size_t any_size(churn *c) {
  uint64_t kind = chance(c, 1000);
  if (kind == 0)
    return 16384 + chance(c, LARGEST - 16384);
  return kind < 100 ? 1024 + chance(c, 4096) : 16 + chance(c, 400);
}

static void push_group(churn *c) {
  for (size_t i = 0; i < c->b.group; i++) {
    c->items[i].body = (respool_bytes){ c->bytes, any_size(c) };
    c->live += c->items[i].body.size;
  }
  must(respool_push(c->queue, c->items, c->b.group, NULL, NULL), "push");
  c->n += c->b.group;
  if (c->live > c->most)
    c->most = c->live;
}

static void mark(churn *c, respool_batch *batch, size_t i) {
  respool_outcome o = RESPOOL_OUTCOME_INIT;
  o.kind = chance(c, 10) == 0 ? RESPOOL_RETRY : RESPOOL_DONE;
  o.delay = (int64_t)chance(c, 1000);
  must(respool_batch_mark(batch, i, &o), "mark");
  if (o.kind == RESPOOL_RETRY)
    return;
  c->live -= respool_batch_item(batch, i)->body.size;
  c->n--;
}

/* False when only delayed items are left. */
static bool drain_batch(churn *c) {
  respool_take_options t = RESPOOL_TAKE_OPTIONS_INIT;
  respool_batch *batch;
  t.items = c->b.group;
  must(respool_take(c->queue, &t, &batch), "take");
  if (batch == NULL)
    return false;
  for (size_t i = 0; i < respool_batch_length(batch); i++)
    mark(c, batch, i);
  must(respool_batch_settle(batch, NULL, NULL), "settle");
  respool_batch_free(batch);
  return true;
}

static void one_round(churn *c) {
  uint64_t least = c->b.backlog / (2 + chance(c, 50));
  while (c->n < c->b.backlog)
    push_group(c);
  while (c->n > least && drain_batch(c))
    must(respool_advance(c->store, 10), "advance");
  must(respool_advance(c->store, 1000), "advance");
}

static void open_churn(churn *c) {
  respool_options o = RESPOOL_OPTIONS_INIT;
  respool_queue_options q = RESPOOL_QUEUE_OPTIONS_INIT;
  o.manual_clock = 1;
  o.sync = RESPOOL_SYNC_RELAXED;
  q.max_attempts = RESPOOL_UNLIMITED;
  must(respool_open(c->b.dir, &o, &c->store), "open");
  must(respool_queue_open(c->store, "bench", &q, &c->queue), "queue");
  c->items = calloc(c->b.group, sizeof *c->items);
  c->bytes = calloc(1, LARGEST);
  if (c->items == NULL || c->bytes == NULL)
    bench_die("not enough memory for a group");
}

static uint64_t file_size(const bench *b) {
  struct stat st;
  if (stat(bench_path(b, "data.mdb"), &st) != 0)
    bench_die("no file");
  return (uint64_t)st.st_size;
}

int main(int argc, char **argv) {
  churn c = { .x = UINT64_C(88172645463325252) };
  int rounds = 0;
  bench_init(&c.b, argc, argv);
  open_churn(&c);
  bench_start(&c.b);
  do {
    one_round(&c);
    rounds++;
  } while (rounds < LEAST_ROUNDS || bench_goes_on(&c.b, c.b.items - 1));
  respool_queue_free(c.queue);
  respool_close(c.store);
  printf("rounds %d\npeak_bytes %" PRIu64 "\nfile_bytes %" PRIu64 "\n",
         rounds, c.most, file_size(&c.b));
  free(c.items);
  free(c.bytes);
  bench_free(&c.b);
  return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * What a backlog costs a take and its settle: by turns in four stores that
 * never flush, with 1,000, 100,000 and --backlog items waiting, and with
 * 1,000 waiting beside 100,000 claims (--backlog of each, if that is less). A
 * turn takes --group items and settles them some times over, and pushes as many
 * again; a median is over all turns. Then what memory the process holds beyond
 * the mapped files.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "respool.h"

enum { STORES = 4, TURNS = 5000, CLAIMS = 100000, LOAD = 10000,
       FEW = 1000, TURN = FEW / 2 /* items of a turn, 20 takes at most */ };

typedef struct depth {
  const char *name;
  uint64_t waiting;
  uint64_t claims;
  respool *store;
  respool_queue *queue;
  respool_batch **held;   /* one a claim */
  int64_t ns[TURNS];
} depth;

static void must(int rc, const char *what) {
  if (rc != 0)
    bench_die("%s: %s: %s", what, respool_errname(rc), respool_error_text());
}

static void push(depth *d, const respool_payload *items, size_t n) {
  must(respool_push(d->queue, items, n, NULL, NULL), "push");
}

static void fill(depth *d, const respool_payload *items, uint64_t n) {
  for (uint64_t left = n; left > 0;) {
    size_t some = left < LOAD ? (size_t)left : LOAD;
    push(d, items, some);
    left -= some;
  }
}

static respool_batch *take(depth *d, uint64_t n) {
  respool_take_options o = RESPOOL_TAKE_OPTIONS_INIT;
  respool_batch *batch;
  o.items = n;
  must(respool_take(d->queue, &o, &batch), "take");
  if (batch == NULL || respool_batch_length(batch) == 0)
    bench_die("%s: nothing to take", d->name);
  return batch;
}

static void claim(depth *d) {
  d->held = calloc(d->claims + 1, sizeof *d->held);
  if (d->held == NULL)
    bench_die("not enough memory for the claims");
  for (uint64_t i = 0; i < d->claims; i++)
    d->held[i] = take(d, 1);
}

/* A lease that does not run out meanwhile. */
static void open_depth(depth *d, const respool_payload *items) {
  respool_options o = RESPOOL_OPTIONS_INIT;
  respool_queue_options q = RESPOOL_QUEUE_OPTIONS_INIT;
  o.sync = RESPOOL_SYNC_NONE;
  q.lease = 3600000;
  must(respool_open(":memory:", &o, &d->store), "open");
  must(respool_queue_open(d->store, "bench", &q, &d->queue), "queue");
  fill(d, items, d->claims);
  claim(d);
  fill(d, items, d->waiting);
}

static void close_depth(depth *d) {
  for (uint64_t i = 0; i < d->claims; i++)
    respool_batch_free(d->held[i]);
  free(d->held);
  respool_queue_free(d->queue);
  respool_close(d->store);
}

static void take_and_settle(depth *d, uint64_t n) {
  respool_outcome done = RESPOOL_OUTCOME_INIT;
  respool_batch *batch = take(d, n);
  done.kind = RESPOOL_DONE;
  must(respool_batch_mark_rest(batch, &done), "mark");
  must(respool_batch_settle(batch, NULL, NULL), "settle");
  respool_batch_free(batch);
}

static int64_t turn(depth *d, const respool_payload *items, size_t group) {
  size_t n = group * 20 < TURN ? 20 : TURN / group;
  int64_t began = bench_now();
  for (size_t i = 0; i < n; i++)
    take_and_settle(d, group);
  int64_t ns = bench_now() - began;
  fill(d, items, n * group);
  return ns / (int64_t)n;
}

static size_t by_turns(bench *b, depth *ds, const respool_payload *items) {
  size_t n = 0;
  bench_start(b);
  for (; n < TURNS && bench_goes_on(b, n * b->group); n++)
    for (int i = 0; i < STORES; i++)
      ds[i].ns[n] = turn(&ds[i], items, b->group);
  return n;
}

/* What of the process is in memory and not of a store's files, in KiB. */
static uint64_t memory_beyond_map(void) {
  FILE *f = fopen("/proc/self/smaps", "r");
  char line[4096];
  uint64_t total = 0, kib;
  unsigned long from, to;
  int mapped = 0;
  while (f != NULL && fgets(line, sizeof line, f) != NULL) {
    if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
      mapped = strstr(line, "data.mdb") != NULL;
    else if (!mapped && sscanf(line, "Rss: %" SCNu64, &kib) == 1)
      total += kib;
  }
  if (f != NULL)
    fclose(f);
  return total;
}

static respool_payload *payloads(const bench *b) {
  respool_payload *items = calloc(LOAD, sizeof *items);
  if (items == NULL)
    bench_die("not enough memory for the items");
  for (size_t i = 0; i < LOAD; i++)
    items[i].body = (respool_bytes){ b->bytes, b->size };
  return items;
}

int main(int argc, char **argv) {
  static depth ds[STORES] = {
    { .name = "few", .waiting = FEW }, { .name = "some", .waiting = 100000 },
    { .name = "many" },
    { .name = "claims", .waiting = FEW, .claims = CLAIMS },
  };
  bench b;
  bench_init(&b, argc, argv);
  if (b.group > TURN)
    bench_die("--group must be at most %d", TURN);
  respool_payload *items = payloads(&b);
  ds[2].waiting = b.backlog;
  if (b.backlog < CLAIMS)
    ds[1].waiting = ds[3].claims = b.backlog;
  uint64_t empty = memory_beyond_map();
  open_depth(&ds[2], items);
  printf("memory_kib %" PRIu64 "\nempty_kib %" PRIu64 "\n",
         memory_beyond_map(), empty);
  for (int i = 0; i < STORES; i++)
    if (i != 2)
      open_depth(&ds[i], items);
  size_t n = by_turns(&b, ds, items);
  for (int i = 0; i < STORES; i++)
    printf("%s_ns %" PRId64 "\n", ds[i].name, bench_median(ds[i].ns, n));
  for (int i = 0; i < STORES; i++)
    close_depth(&ds[i]);
  free(items);
  bench_free(&b);
  return 0;
}

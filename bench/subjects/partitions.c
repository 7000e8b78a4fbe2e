/* SPDX-License-Identifier: MIT */
/*
 * What partitions cost. Items are pushed in groups of 1,000, and only then
 * taken and done in batches of 1,000: without a partition, each of a partition
 * of its own with rising names, and with names in random order. Prints the time
 * that an item takes, of the clock and of the processor, and both as ratios to
 * those of a queue without.
 *
 *   partitions DIR [ITEMS [ROUNDS [KIND]]]
 *
 * DIR is empty, and is so again at the end. Each push and each settle is on
 * disk when it returns; with KIND, one of the three alone is run, without
 * flushes.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "respool.h"

enum { GROUP = 1000, NAME = 16, MAX_ROUNDS = 99 };

enum kind { PLAIN, RISING, RANDOM, KINDS };

static const char *const KIND[KINDS] = { "without", "rising", "random" };

typedef struct part {
  const char *dir;
  uint64_t items;
  bool counted; /* with KIND */
  respool *store;
  respool_queue *queue;
  char names[GROUP][NAME];
  respool_payload list[GROUP];
} part;

typedef struct cost {
  int64_t push, drain, cpu; /* ns */
} cost;

static void must(int rc, const char *what) {
  if (rc != 0)
    bench_die("%s: %s: %s", what, respool_errname(rc), respool_error_text());
}

/* A permutation of 0 .. 2^26 - 1. */
static uint64_t scattered(uint64_t n) {
  return (n * 40503641 + 12345) % 67108864;
}

static void name_group(part *x, enum kind kind, uint64_t from) {
  static const uint8_t body[] = { 0x1a, 1, 2, 3, 4 };
  memset(x->list, 0, sizeof x->list);
  for (size_t i = 0; i < GROUP; i++) {
    uint64_t n = kind == RANDOM ? scattered(from + i) : from + i;
    x->list[i].body = (respool_bytes){ body, sizeof body };
    if (kind == PLAIN)
      continue;
    int size = snprintf(x->names[i], NAME, "tenant-%08u", (unsigned)n);
    x->list[i].partition = (respool_bytes){ x->names[i], (size_t)size };
  }
}

/* The pushes alone are measured, not the making of names. */
static void fill(part *x, enum kind kind, cost *c) {
  for (uint64_t from = 0; from < x->items; from += GROUP) {
    name_group(x, kind, from);
    int64_t wall = bench_now(), cpu = bench_cpu();
    must(respool_push(x->queue, x->list, GROUP, NULL, NULL), "push");
    c->push += bench_now() - wall;
    c->cpu += bench_cpu() - cpu;
  }
}

static void drain(part *x, cost *c) {
  respool_take_options t = RESPOOL_TAKE_OPTIONS_INIT;
  respool_outcome done = RESPOOL_OUTCOME_INIT;
  respool_batch *batch;
  uint64_t n = 0;
  int64_t wall = bench_now(), cpu = bench_cpu();
  t.items = GROUP;
  done.kind = RESPOOL_DONE;
  for (;;) {
    must(respool_take(x->queue, &t, &batch), "take");
    if (batch == NULL)
      break;
    n += respool_batch_length(batch);
    must(respool_batch_mark_rest(batch, &done), "mark");
    must(respool_batch_settle(batch, NULL, NULL), "settle");
    respool_batch_free(batch);
  }
  c->drain += bench_now() - wall;
  c->cpu += bench_cpu() - cpu;
  if (n != x->items)
    bench_die("%llu items came", (unsigned long long)n);
}

static void remove_store(const part *x) {
  char path[4096];
  DIR *d = opendir(x->dir);
  if (d == NULL)
    bench_die("cannot read %s", x->dir);
  for (struct dirent *e; (e = readdir(d)) != NULL;) {
    snprintf(path, sizeof path, "%s/%s", x->dir, e->d_name);
    unlink(path); /* not . and .. */
  }
  closedir(d);
}

static cost measure(part *x, enum kind kind) {
  respool_options o = RESPOOL_OPTIONS_INIT;
  cost c = { 0 };
  if (x->counted)
    o.sync = RESPOOL_SYNC_RELAXED;
  must(respool_open(x->dir, &o, &x->store), "open");
  must(respool_queue_open(x->store, "bench", NULL, &x->queue), "queue");
  fill(x, kind, &c);
  drain(x, &c);
  respool_queue_free(x->queue);
  respool_close(x->store);
  remove_store(x);
  return c;
}

static void compare(part *x, size_t rounds) {
  static int64_t of[KINDS][3][MAX_ROUNDS];
  double wall[KINDS], cpu[KINDS];
  for (size_t r = 0; r < rounds; r++)
    for (int k = 0; k < KINDS; k++) {
      cost c = measure(x, (enum kind)k);
      of[k][0][r] = c.push, of[k][1][r] = c.drain, of[k][2][r] = c.cpu;
    }
  for (int k = 0; k < KINDS; k++) {
    double push = (double)bench_median(of[k][0], rounds);
    double drained = (double)bench_median(of[k][1], rounds);
    wall[k] = push + drained;
    cpu[k] = (double)bench_median(of[k][2], rounds);
    printf("%-8s push %5.0f  take and done %5.0f  cpu %5.0f ns  "
           "rate x %.2f, of cpu x %.2f\n", KIND[k], push / (double)x->items,
           drained / (double)x->items, cpu[k] / (double)x->items,
           wall[0] / wall[k], cpu[0] / cpu[k]);
  }
}

int main(int argc, char **argv) {
  static part x = { .items = 1000000 };
  size_t rounds = 3;
  if (argc < 2)
    bench_die("usage: partitions DIR [ITEMS [ROUNDS [KIND]]]");
  x.dir = argv[1];
  if (argc > 2)
    x.items = strtoull(argv[2], NULL, 10) / GROUP * GROUP;
  if (argc > 3)
    rounds = strtoull(argv[3], NULL, 10);
  if (!x.items || !rounds || rounds > MAX_ROUNDS)
    bench_die("no such number of items or rounds");
  if (argc < 5) {
    compare(&x, rounds);
    return 0;
  }
  x.counted = true;
  for (int k = 0; k < KINDS; k++)
    if (!strcmp(argv[4], KIND[k])) {
      cost c = measure(&x, (enum kind)k);
      printf("%s: cpu %.0f ns an item\n", KIND[k],
             (double)c.cpu / (double)x.items);
    }
  return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * Dead letters. By turns, a batch of --group items that is finished and one
 * whose every item fails for the last time, with its error; what the settle
 * takes of each, durable both. Then the dead letters, --items of them, replayed
 * into the queue they came from: a page is listed without the payloads, and
 * moved in one durable commit.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "respool.h"

enum { MOST_BATCHES = 10000 };

static const char error[] = "connection refused";

typedef struct post {
  bench b;
  respool *store;
  respool_queue *queue;
  respool_payload *items;
  respool_move *moves;
} post;

static void must(int rc, const char *what) {
  if (rc != 0)
    bench_die("%s: %s: %s", what, respool_errname(rc), respool_error_text());
}

static void open_post(post *p) {
  respool_queue_options q = RESPOOL_QUEUE_OPTIONS_INIT;
  q.max_attempts = 1;
  must(respool_open(p->b.dir, NULL, &p->store), "open");
  must(respool_queue_open(p->store, "bench", &q, &p->queue), "queue");
  p->items = calloc(p->b.group, sizeof *p->items);
  p->moves = calloc(p->b.group, sizeof *p->moves);
  if (p->items == NULL || p->moves == NULL)
    bench_die("not enough memory for a group");
  for (size_t i = 0; i < p->b.group; i++)
    p->items[i].body =
      (respool_bytes){ p->b.bytes + i * p->b.size, p->b.size };
}

static respool_batch *next_batch(post *p) {
  respool_take_options t = RESPOOL_TAKE_OPTIONS_INIT;
  respool_batch *batch;
  must(respool_push(p->queue, p->items, p->b.group, NULL, NULL), "push");
  t.items = p->b.group;
  must(respool_take(p->queue, &t, &batch), "take");
  if (batch == NULL || respool_batch_length(batch) != p->b.group)
    bench_die("a batch is missing");
  return batch;
}

static int64_t settle(post *p, int kind) {
  respool_outcome o = RESPOOL_OUTCOME_INIT;
  respool_batch *batch = next_batch(p);
  o.kind = kind;
  o.error = respool_text(kind == RESPOOL_DONE ? NULL : error);
  int64_t began = bench_now();
  must(respool_batch_mark_rest(batch, &o), "mark");
  must(respool_batch_settle(batch, NULL, NULL), "settle");
  int64_t ns = bench_now() - began;
  respool_batch_free(batch);
  return ns;
}

static uint64_t dead_letters(post *p) {
  uint64_t n;
  must(respool_dead_count(p->store, "bench", &n), "count");
  return n;
}

static void make_dead_letters(post *p) {
  static int64_t done[MOST_BATCHES], dead[MOST_BATCHES];
  size_t batches = p->b.items / p->b.group;
  if (batches > MOST_BATCHES)
    bench_die("at most %d groups", MOST_BATCHES);
  for (size_t i = 0; i < batches; i++) {
    done[i] = settle(p, RESPOOL_DONE);
    dead[i] = settle(p, RESPOOL_RETRY);
  }
  if (dead_letters(p) != p->b.items)
    bench_die("%" PRIu64 " dead letters", dead_letters(p));
  printf("done_ns %" PRId64 "\ndead_ns %" PRId64 "\n",
         bench_median(done, batches), bench_median(dead, batches));
}

/* The numbers of the next page of dead letters. */
static size_t list_page(post *p, uint64_t after) {
  respool_list_options o = RESPOOL_LIST_OPTIONS_INIT;
  respool_dead_letters *l;
  o.after = after;
  o.limit = p->b.group;
  o.no_body = 1;
  must(respool_dead_list(p->store, "bench", &o, &l), "list");
  size_t n = respool_dead_letters_length(l);
  for (size_t i = 0; i < n; i++)
    p->moves[i].number = respool_dead_letters_at(l, i)->number;
  respool_dead_letters_free(l);
  return n;
}

static void replay(post *p) {
  uint64_t after = 0, moved, total = 0;
  for (size_t n; (n = list_page(p, after)) > 0; total += moved) {
    must(respool_dead_move(p->store, "bench", p->moves, n, NULL, &moved),
         "move");
    after = p->moves[n - 1].number;
  }
  if (total != p->b.items || dead_letters(p) != 0)
    bench_die("%" PRIu64 " dead letters were moved", total);
}

int main(int argc, char **argv) {
  post p = { .store = NULL };
  bench_init(&p.b, argc, argv);
  open_post(&p);
  make_dead_letters(&p);
  bench_start(&p.b);
  replay(&p);
  bench_stop(&p.b, p.b.items);
  free(p.items);
  free(p.moves);
  respool_queue_free(p.queue);
  respool_close(p.store);
  bench_free(&p.b);
  return 0;
}

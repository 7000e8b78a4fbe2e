/* SPDX-License-Identifier: MIT */
/*
 * The life of items, in C: three orders are pushed and taken under a lease;
 * one is done, one fails and is tried again, one is refused and becomes a
 * dead letter, which is then replayed. Every step is printed and checked.
 *
 *   cc -Iinclude examples/lifecycle.c -Lbuild -lrespool -o lifecycle
 *   ./lifecycle [DIRECTORY]
 *
 * Without a directory the store is in memory. The program exits 0 when
 * everything went as it should.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "respool.h"

/* Ends the program when a call failed: what a real one would handle. */
static void must(int rc, const char *what) {
  if (rc == RESPOOL_OK)
    return;
  fprintf(stderr, "%s: %s: %s\n", what, respool_errname(rc),
          respool_error_text());
  exit(1);
}

static void expect(int holds, const char *what) {
  if (holds)
    return;
  fprintf(stderr, "not so: %s\n", what);
  exit(1);
}

static respool_payload text(const char *s) {
  return (respool_payload){ .body = { s, strlen(s) } };
}

static void push(respool_queue *orders) {
  respool_payload items[] = { text("tea"), text("coffee"), text("gravel") };
  respool_result r = RESPOOL_RESULT_INIT;
  must(respool_push(orders, items, 3, NULL, &r), "push");
  printf("pushed   3 orders from id %" PRIu64 ", on disk\n", r.first);
}

static respool_batch *take(respool_queue *orders) {
  respool_take_options o = RESPOOL_TAKE_OPTIONS_INIT;
  respool_batch *batch;
  o.items = 100;
  must(respool_take(orders, &o, &batch), "take");
  expect(batch != NULL, "there is something to take");
  for (size_t i = 0; i < respool_batch_length(batch); i++) {
    const respool_item *item = respool_batch_item(batch, i);
    printf("took     %" PRIu64 " \"%.*s\", delivery %" PRIu64
           ", failed %" PRIu64 " times\n", item->id, (int)item->body.size,
           (const char *)item->body.data, item->about->deliveries,
           item->about->attempts);
  }
  return batch;
}

static void mark(respool_batch *batch, size_t i, respool_outcome o) {
  must(respool_batch_mark(batch, i, &o), "mark");
}

/* One commit for all outcomes; then the batch has served. */
static void settle(respool_batch *batch) {
  must(respool_batch_settle(batch, NULL, NULL), "settle");
  respool_batch_free(batch);
}

static respool_outcome outcome(int kind, const char *error) {
  respool_outcome o = RESPOOL_OUTCOME_INIT;
  o.kind = kind;
  o.error = respool_text(error);
  return o;
}

static void settle_each_its_way(respool_batch *batch) {
  respool_outcome retry = outcome(RESPOOL_RETRY, "the pot is empty");
  respool_outcome dead = outcome(RESPOOL_DEAD, "we do not serve this");
  expect(respool_batch_length(batch) == 3, "the batch has all three orders");
  retry.delay = 0; /* at once; RESPOOL_KEEP asks the queue's policy */
  dead.group = respool_text("menu");
  mark(batch, 0, outcome(RESPOOL_DONE, NULL));
  mark(batch, 1, retry);
  mark(batch, 2, dead);
  settle(batch);
  printf("settled  one done, one to be tried again, one dead\n");
}

static void settle_done(respool_batch *batch) {
  respool_outcome done = outcome(RESPOOL_DONE, NULL);
  expect(respool_batch_length(batch) == 1, "the batch has one order");
  must(respool_batch_mark_rest(batch, &done), "mark");
  settle(batch);
  printf("settled  done\n");
}

static void finish_retry(respool_queue *orders) {
  respool_batch *batch = take(orders);
  expect(respool_batch_item(batch, 0)->about->attempts == 1, "it failed once");
  settle_done(batch);
}

/* The number of the only dead letter in the DLQ. */
static uint64_t read_dead(respool *store) {
  respool_dead_letters *dead_letters;
  must(respool_dead_list(store, "orders", NULL, &dead_letters), "list");
  expect(respool_dead_letters_length(dead_letters) == 1,
         "there is one dead letter");
  const respool_dead_letter *l = respool_dead_letters_at(dead_letters, 0);
  uint64_t number = l->number;
  printf("dead letter   %" PRIu64 " \"%.*s\", %.*s: %.*s\n", number,
         (int)l->body.size, (const char *)l->body.data,
         (int)l->reason.size, (const char *)l->reason.data,
         (int)l->error.size, (const char *)l->error.data);
  respool_dead_letters_free(dead_letters);
  return number;
}

/* Sends the dead letter back to its queue as something that can be served. */
static void replay(respool *store) {
  respool_payload milk = text("milk");
  respool_move move = { .number = read_dead(store), .payload = &milk };
  uint64_t moved;
  must(respool_dead_move(store, "orders", &move, 1, NULL, &moved), "replay");
  expect(moved == 1, "the dead letter was moved");
  printf("replayed as \"milk\"\n");
}

static void account(respool_queue *orders) {
  respool_queue_stats s = RESPOOL_QUEUE_STATS_INIT;
  must(respool_queue_stat(orders, &s), "stats");
  printf("account  %" PRIu64 " pushed = %" PRIu64 " done + %" PRIu64
         " died\n", s.pushed, s.done, s.died);
  expect(s.pushed == 4 && s.done == 3 && s.died == 1,
         "three orders and a replay were pushed; three done, one died");
  expect(s.ready + s.leased + s.scheduled + s.retrying + s.dead == 0,
         "nothing is left");
}

int main(int argc, char **argv) {
  const char *path = argc > 1 ? argv[1] : ":memory:";
  respool *store;
  respool_queue *orders;
  must(respool_open(path, NULL, &store), "open");
  must(respool_queue_open(store, "orders", NULL, &orders), "queue");
  push(orders);
  settle_each_its_way(take(orders));
  finish_retry(orders);
  replay(store);
  settle_done(take(orders));
  account(orders);
  respool_queue_free(orders);
  respool_close(store);
  return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * The verbs on another engine than LMDB: this program is linked with the core
 * but for core/lmdb, and brings the engine of the specs instead. Writes a
 * line for each of its checks.
 */
#include "holds.h"
#include "memory_engine.h"
#include "verbs/engines.h"

static respool *s;
static respool_queue *q;

/* In place of core/verbs/engines.c. */
const engine *engine_of(const char *path) {
  (void)path;
  return &memory_engine;
}

static respool_payload text(const char *t) {
  return (respool_payload){.body = {t, strlen(t)}};
}

static bool is(const respool_item *i, const char *t) {
  return i && i->body.size == strlen(t) &&
         !memcmp(i->body.data, t, i->body.size);
}

static uint64_t push(const char *t, int64_t delay) {
  respool_push_options o = RESPOOL_PUSH_OPTIONS_INIT;
  respool_result r = RESPOOL_RESULT_INIT;
  respool_payload p = text(t);
  o.delay = delay;
  WORKS(respool_push(q, &p, 1, &o, &r));
  return r.first;
}

static respool_batch *take(uint64_t items, int64_t wait) {
  respool_take_options o = RESPOOL_TAKE_OPTIONS_INIT;
  respool_batch *b = NULL;
  o.items = items;
  o.wait = wait;
  WORKS(respool_take(q, &o, &b));
  return b;
}

static void settle(respool_batch *b, int kind, const char *error) {
  respool_outcome o = RESPOOL_OUTCOME_INIT;
  o.kind = kind;
  o.error = respool_text(error);
  WORKS(respool_batch_mark_rest(b, &o));
  WORKS(respool_batch_settle(b, NULL, NULL));
  respool_batch_free(b);
}

static uint64_t count_dead(void) {
  uint64_t n = 0;
  WORKS(respool_dead_count(s, "jobs", &n));
  return n;
}

static respool_queue_stats stats(void) {
  respool_queue_stats out = RESPOOL_QUEUE_STATS_INIT;
  WORKS(respool_queue_stat(q, &out));
  return out;
}

/* ---- what holds --------------------------------------------------------- */

static void items_are_taken_in_push_order(void) {
  HOLDS(push("a", 0) == 1);
  HOLDS(push("b", 0) == 2);
  respool_batch *b = take(10, 0);
  HOLDS(respool_batch_length(b) == 2);
  HOLDS(is(respool_batch_item(b, 0), "a"));
  HOLDS(is(respool_batch_item(b, 1), "b"));
  HOLDS(!take(10, 0));
  settle(b, RESPOOL_DONE, NULL);
  HOLDS(stats().ready == 0);
  HOLDS(stats().leased == 0);
}

static void a_retry_waits_and_counts(void) {
  push("again", 0);
  settle(take(1, 0), RESPOOL_RETRY, "no answer");
  HOLDS(!take(1, 0));
  respool_batch *b = take(1, 10000); /* moves the clock to the due time */
  const respool_item *i = respool_batch_item(b, 0);
  HOLDS(is(i, "again"));
  const respool_item_about *a = i ? i->about : NULL;
  HOLDS(a && a->attempts == 1);
  HOLDS(a && a->deliveries == 2);
  HOLDS(a && a->error.size == 9 && !memcmp(a->error.data, "no answer", 9));
  settle(b, RESPOOL_DONE, NULL);
}

static void the_last_attempt_makes_a_dead_letter(void) {
  push("poison", 0);
  settle(take(1, 0), RESPOOL_RETRY, "once");
  settle(take(1, 60000), RESPOOL_RETRY, "twice");
  HOLDS(!take(1, 600000));
  HOLDS(count_dead() == 1);
}

static void a_dead_item_is_over(void) {
  push("bad", 0);
  settle(take(1, 0), RESPOOL_DEAD, "bad");
  HOLDS(count_dead() == 2);
  HOLDS(stats().ready == 0);
}

static void a_delayed_item_comes_when_it_is_due(void) {
  int64_t from = respool_now(s);
  push("later", 5000);
  HOLDS(!take(1, 4999));
  respool_batch *b = take(1, 10);
  HOLDS(is(respool_batch_item(b, 0), "later"));
  HOLDS(respool_now(s) == from + 5000);
  settle(b, RESPOOL_DONE, NULL);
}

static void a_lease_that_ran_out_is_lost(void) {
  push("slow", 0);
  respool_batch *late = take(1, 0);
  WORKS(respool_advance(s, 30000));
  respool_batch *b = take(1, 0);
  HOLDS(is(respool_batch_item(b, 0), "slow"));
  respool_outcome o = RESPOOL_OUTCOME_INIT;
  o.kind = RESPOOL_DONE;
  WORKS(respool_batch_mark_rest(late, &o));
  HOLDS(respool_batch_settle(late, NULL, NULL) == RESPOOL_LEASE_LOST);
  HOLDS(respool_batch_lost(late) == 1);
  respool_batch_free(late);
  settle(b, RESPOOL_DONE, NULL);
}

static void a_transaction_happens_as_a_whole(void) {
  respool_tx *tx;
  size_t pushed;
  respool_payload p = text("next");
  respool_outcome o = RESPOOL_OUTCOME_INIT;
  push("first", 0);
  respool_batch *b = take(1, 0);
  o.kind = RESPOOL_DONE;
  WORKS(respool_tx_begin(s, &tx));
  WORKS(respool_tx_push(tx, q, &p, 1, NULL, &pushed));
  WORKS(respool_tx_mark(tx, b, 0, &o));
  WORKS(respool_tx_commit(tx));
  HOLDS(respool_tx_id(tx, pushed) > 0);
  respool_tx_free(tx);
  respool_batch_free(b);
  HOLDS(stats().leased == 0);
  b = take(1, 0);
  HOLDS(is(respool_batch_item(b, 0), "next"));
  settle(b, RESPOOL_DONE, NULL);
}

static void a_transaction_that_fails_changes_nothing(void) {
  respool_tx *tx;
  respool_payload many[300], one = text("x");
  for (size_t i = 0; i < 300; i++) many[i] = text("y");
  WORKS(respool_tx_begin(s, &tx));
  WORKS(respool_tx_push(tx, q, &one, 1, NULL, NULL));
  WORKS(respool_tx_push(tx, q, many, 300, NULL, NULL));
  HOLDS(respool_tx_commit(tx) == RESPOOL_FULL);
  HOLDS(!respool_error_of_store());
  respool_tx_free(tx);
  HOLDS(stats().ready == 0);
}

static void a_settle_takes_along_a_push_and_the_next_take(void) {
  respool_payload p = text("child");
  respool_handover h = {.queue = q, .items = &p, .n = 1};
  respool_take_options more = RESPOOL_TAKE_OPTIONS_INIT;
  respool_settle_options o = RESPOOL_SETTLE_OPTIONS_INIT;
  respool_outcome done = RESPOOL_OUTCOME_INIT;
  respool_batch *next = NULL;
  push("parent", 0);
  respool_batch *b = take(1, 0);
  done.kind = RESPOOL_DONE;
  o.pushes = &h;
  o.n_pushes = 1;
  o.take = &more;
  WORKS(respool_batch_mark_rest(b, &done));
  WORKS(respool_batch_settle(b, &o, &next));
  respool_batch_free(b);
  HOLDS(is(respool_batch_item(next, 0), "child"));
  settle(next, RESPOOL_DONE, NULL);
}

static void a_ticket_is_a_unit_too(void) {
  respool_ticket *t;
  respool_payload p = text("by ticket");
  respool_result r = RESPOOL_RESULT_INIT;
  WORKS(respool_push_start(q, &p, 1, NULL, &t));
  while (!respool_ticket_poll(t)) usleep(100);
  WORKS(respool_ticket_finish(t, &r));
  respool_ticket_free(t);
  HOLDS(r.first > 0);
  settle(take(1, 0), RESPOOL_DONE, NULL);
}

/* In a server's store each would be a round trip. */
static void a_buffer_asks_once_whether_a_queue_has_partitions(void) {
  respool_buffer_options o = RESPOOL_BUFFER_OPTIONS_INIT;
  respool_buffer *b;
  respool_payload p = text("parted");
  int before = memory_fits;
  p.partition = respool_text("a");
  o.items = 3;
  WORKS(respool_buffer_open(q, &o, &b));
  for (int i = 0; i < 3; i++) WORKS(respool_buffer_push(b, &p, NULL));
  WORKS(respool_buffer_flush(b));
  HOLDS(memory_fits == before + 1);
  respool_buffer_free(b);
  settle(take(3, 0), RESPOOL_DONE, NULL);
}

static void a_store_without_files_is_not_compacted(void) {
  respool_compaction out = RESPOOL_COMPACTION_INIT;
  HOLDS(respool_compact("somewhere", NULL, &out) == RESPOOL_INVALID);
  HOLDS(strstr(respool_error_text(), "not in files"));
}

/* ---- all of them -------------------------------------------------------- */

int main(void) {
  respool_options o = RESPOOL_OPTIONS_INIT;
  respool_queue_options policy = RESPOOL_QUEUE_OPTIONS_INIT;
  o.manual_clock = 1;
  policy.max_attempts = 2;
  policy.max_items = 200;
  WORKS(respool_open("memory", &o, &s));
  WORKS(respool_queue_open(s, "jobs", &policy, &q));
  CHECK(items_are_taken_in_push_order());
  CHECK(a_retry_waits_and_counts());
  CHECK(the_last_attempt_makes_a_dead_letter());
  CHECK(a_dead_item_is_over());
  CHECK(a_delayed_item_comes_when_it_is_due());
  CHECK(a_lease_that_ran_out_is_lost());
  CHECK(a_transaction_happens_as_a_whole());
  CHECK(a_transaction_that_fails_changes_nothing());
  CHECK(a_settle_takes_along_a_push_and_the_next_take());
  CHECK(a_ticket_is_a_unit_too());
  CHECK(a_buffer_asks_once_whether_a_queue_has_partitions());
  CHECK(a_store_without_files_is_not_compacted());
  respool_queue_free(q);
  respool_close(s);
  return exit_status();
}

/* SPDX-License-Identifier: MIT */
/*
 * The server's verbs, one by one, each on a queue of its own in one schema:
 * postgres_verbs URL. Time is moved by hand. Prints what does not hold; exits
 * 0 when everything does.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "kit.h"

static int wrong;
static kit store;
static const char *location;
static char schema[64];

#define HOLDS(x) ((x) ? (void)0 : report(#x, __LINE__))

static void report(const char *what, int line) {
  wrong++;
  printf("%s:%d: not so: %s (%s)\n", __FILE__, line, what,
         respool_error_text());
}

static kit_queue queue_of(const kit_policy *p) {
  static int n;
  char name[32];
  snprintf(name, sizeof name, "q%d", ++n);
  return kit_queue_save(&store, name, 0, p);
}

static void pass(int64_t ms) {
  store.wall += ms;
}

static uint64_t push(int q, size_t n) {
  uint64_t first = 0;
  HOLDS(kit_push_items(&store, q, n, NULL, &first) == 0);
  return first;
}

static size_t take(int q, int want, kit_batch *b) {
  HOLDS(kit_take_items(&store, q, want, NULL, b) == 0);
  HOLDS(b->damaged == 0);
  return b->n;
}

static int settle(int q, const kit_batch *b, const char *outcomes) {
  kit_settle o = {.outcomes = outcomes, .wait = 1000};
  int rc = kit_settle_batch(&store, q, b, &o);
  return rc ? rc : (int)o.lost;
}

enum { NOW, PAUSED, POLICY, READY, LEASED, SCHEDULED, RETRYING, DEAD,
       DEAD_BYTES, DEAD_DROPPED, BYTES,
       OLDEST, NEXT_DUE, PUSHED, DONE, DIED, EXPIRED, REMOVED, DROPPED,
       DELIVERED, RETRIED, RELEASED, SNOOZED, CRASHED, LEASE_LOST, DAMAGED,
       KEPT, KEPT_BYTES };

static int64_t stat_of(int q, int what) {
  values v;
  request r;
  values_init(&v);
  put_int4(&v, q);
  put_int8(&v, store.wall);
  HOLDS(kit_call(&store, &r, &v, STATEMENT_STAT, false) == 0);
  int64_t n = value_int(r.result, 0, what);
  request_clear(&r);
  values_free(&v);
  return n;
}

/* ---- push and take ------------------------------------------------------ */

static void higher_priorities_come_first(void) {
  kit_queue q = queue_of(NULL);
  kit_batch b = {0};
  kit_push high = {.priority = 5};
  uint64_t low = push(q.id, 3), id;
  HOLDS(kit_push_items(&store, q.id, 2, &high, &id) == 0);
  HOLDS(take(q.id, 2, &b) == 2 && b.ids[0] == id && b.ids[1] == id + 1);
  HOLDS(kit_done(&store, q.id, &b) == 0);
  HOLDS(take(q.id, 10, &b) == 3 && b.ids[0] == low);
  HOLDS(kit_done(&store, q.id, &b) == 0);
  HOLDS(stat_of(q.id, DONE) == 5 && stat_of(q.id, READY) == 0);
  kit_batch_free(&b);
}

static void a_take_spans_priorities_and_pushes(void) {
  kit_queue q = queue_of(NULL);
  kit_batch b = {0};
  kit_push high = {.priority = 9};
  uint64_t a = push(q.id, 2), c;
  pass(1);
  uint64_t d = push(q.id, 2);
  HOLDS(kit_push_items(&store, q.id, 1, &high, &c) == 0);
  HOLDS(take(q.id, 4, &b) == 4);
  HOLDS(b.ids[0] == c && b.ids[1] == a && b.ids[2] == a + 1 &&
        b.ids[3] == d);
  HOLDS(kit_done(&store, q.id, &b) == 0);
  HOLDS(take(q.id, 4, &b) == 1 && b.ids[0] == d + 1);
  kit_batch_free(&b);
}

static void a_run_is_handed_out_in_parts(void) {
  kit_queue q = queue_of(NULL);
  kit_batch b[4];
  memset(b, 0, sizeof b);
  uint64_t id = push(q.id, 10);
  HOLDS(take(q.id, 3, &b[0]) == 3 && b[0].ids[0] == id);
  HOLDS(take(q.id, 3, &b[1]) == 3 && b[1].ids[0] == id + 3);
  HOLDS(take(q.id, 9, &b[2]) == 4 && b[2].ids[3] == id + 9);
  HOLDS(take(q.id, 9, &b[3]) == 0 && b[3].head.next_due > 0);
  for (int i = 2; i >= 0; i--) HOLDS(kit_done(&store, q.id, &b[i]) == 0);
  HOLDS(stat_of(q.id, BYTES) == 0);
  for (int i = 0; i < 4; i++) kit_batch_free(&b[i]);
}

static void runs_with_holes_are_cut_too(void) {
  kit_queue q = queue_of(NULL);
  kit_batch b = {0};
  uint64_t id = push(q.id, 8);
  take(q.id, 8, &b);
  HOLDS(settle(q.id, &b, "dldldldl") == 0);
  HOLDS(take(q.id, 3, &b) == 3);
  HOLDS(b.ids[0] == id + 1 && b.ids[1] == id + 3 && b.ids[2] == id + 5);
  HOLDS(kit_done(&store, q.id, &b) == 0);
  HOLDS(take(q.id, 3, &b) == 1 && b.ids[0] == id + 7);
  HOLDS(kit_done(&store, q.id, &b) == 0 && kit_check(&store) == 0);
  HOLDS(stat_of(q.id, DONE) == 8);
  kit_batch_free(&b);
}

static void a_take_is_bounded_in_bytes_but_for_one_item(void) {
  kit_queue q = queue_of(NULL);
  kit_batch b = {0};
  kit_push o = {.body = 1000};
  kit_take small = {.bytes = 3500}, tiny = {.bytes = 10};
  HOLDS(kit_push_items(&store, q.id, 20, &o, NULL) == 0);
  HOLDS(kit_take_items(&store, q.id, 100, &small, &b) == 0 && b.n == 3);
  HOLDS(kit_take_items(&store, q.id, 100, &tiny, &b) == 0 && b.n == 1);
  HOLDS(take(q.id, 100, &b) == 16 && b.damaged == 0);
  kit_batch_free(&b);
}

static void scheduled_items_wait(void) {
  kit_queue q = queue_of(NULL);
  kit_batch b = {0};
  kit_push o = {.delay = 500};
  HOLDS(kit_push_items(&store, q.id, 2, &o, NULL) == 0);
  HOLDS(take(q.id, 5, &b) == 0);
  HOLDS(b.head.next_due == store.wall + 500);
  HOLDS(stat_of(q.id, SCHEDULED) == 2 && stat_of(q.id, RETRYING) == 0);
  pass(500);
  HOLDS(take(q.id, 5, &b) == 2);
  kit_batch_free(&b);
}

static void a_paused_queue_hands_nothing_out(void) {
  kit_queue q = queue_of(NULL);
  kit_batch b = {0};
  char sql[100];
  push(q.id, 1);
  for (int i = 1; i >= 0; i--) {
    snprintf(sql, sizeof sql, "SELECT 1 FROM queue u, v1_queue_pause(u.name, "
             "%s) WHERE u.id = %d", i ? "true" : "false", q.id);
    kit_number(&store, sql);
    HOLDS(take(q.id, 1, &b) == (i ? 0 : 1));
  }
  kit_batch_free(&b);
}

static void marks_step_over_what_is_gone(void) {
  kit_queue q = queue_of(NULL);
  kit_batch b = {0};
  push(q.id, 1);
  take(q.id, 1, &b);
  HOLDS(b.head.low_fresh == store.wall);
  kit_take o = {.low_fresh = b.head.low_fresh, .low_due = store.wall};
  kit_done(&store, q.id, &b);
  push(q.id, 1);
  HOLDS(kit_take_items(&store, q.id, 1, &o, &b) == 0 && b.n == 1);
  kit_done(&store, q.id, &b);
  push(q.id, 1);
  o.low_fresh = store.wall + 1;
  HOLDS(kit_take_items(&store, q.id, 1, &o, &b) == 0 && b.n == 0);
  HOLDS(take(q.id, 1, &b) == 1);
  kit_batch_free(&b);
}

/* ---- leases ------------------------------------------------------------- */

static void a_lease_that_ran_out_is_fenced(void) {
  kit_queue q = queue_of(NULL);
  kit_batch a = {0}, b = {0};
  uint64_t id = push(q.id, 1);
  take(q.id, 1, &a);
  pass(30001);
  HOLDS(take(q.id, 1, &b) == 1 && b.ids[0] == id);
  HOLDS(b.head.token > a.head.token && b.runs[0].t.deliveries == 2);
  HOLDS(b.runs[0].t.crashes == 1 && b.runs[0].t.n_lapses == 1);
  HOLDS(kit_done(&store, q.id, &a) == 1);
  kit_settle strict = {.outcomes = "d", .strict = true};
  HOLDS(kit_settle_batch(&store, q.id, &a, &strict) == RESPOOL_LEASE_LOST);
  HOLDS(settle(q.id, &a, "x") == 1 && stat_of(q.id, DEAD) == 0);
  HOLDS(kit_done(&store, q.id, &b) == 0);
  kit_batch_free(&a);
  kit_batch_free(&b);
}

static size_t extend(int q, const kit_batch *b, int64_t ms) {
  values v;
  request r;
  values_init(&v);
  put_int4(&v, q);
  put_int8(&v, store.wall);
  put_int8(&v, (int64_t)b->head.token);
  put_int8(&v, ms);
  array_begin(&v, TYPE_INT8, b->n_runs);
  for (size_t i = 0; i < b->n_runs; i++)
    add_int8(&v, (int64_t)b->runs[i].t.first);
  array_end(&v);
  array_begin(&v, TYPE_INT8, b->n_runs);
  for (size_t i = 0; i < b->n_runs; i++)
    add_int8(&v, (int64_t)b->runs[i].t.first + b->runs[i].t.n - 1);
  array_end(&v);
  HOLDS(kit_call(&store, &r, &v, STATEMENT_EXTEND, false) == 0);
  size_t lost = value_count(r.result, 0, 0);
  request_clear(&r);
  values_free(&v);
  return lost;
}

static void an_extended_lease_holds(void) {
  kit_queue q = queue_of(NULL);
  kit_batch a = {0}, b = {0};
  push(q.id, 2);
  take(q.id, 2, &a);
  HOLDS(extend(q.id, &a, 60000) == 0);
  pass(31000);
  HOLDS(take(q.id, 2, &b) == 0);
  pass(30000);
  HOLDS(take(q.id, 2, &b) == 1);
  HOLDS(extend(q.id, &a, 60000) == 1);
  kit_batch_free(&a);
  kit_batch_free(&b);
}

/* Whoever takes the first item dies. */
static void a_poison_item_is_alone_in_the_end(void) {
  kit_queue q = queue_of(NULL);
  kit_batch b = {0};
  uint64_t id = push(q.id, 8), sum = 0;
  int rounds = 0;
  for (; stat_of(q.id, PUSHED) > stat_of(q.id, DONE) + stat_of(q.id, DIED) &&
         rounds < 30; rounds++) {
    take(q.id, 100, &b);
    HOLDS(b.n_runs <= 2 && b.n_crashed <= 1); /* blamed ones come alone */
    if (b.n_crashed) HOLDS(settle(q.id, &b, NULL) == 0);
    if (b.n && b.ids[0] == id) {
      pass(30001);
      continue;
    }
    for (size_t i = 0; i < b.n; i++) sum += b.ids[i] - id;
    if (b.n) HOLDS(settle(q.id, &b, "dddddddd") == 0 || b.n_crashed);
  }
  HOLDS(sum == 1 + 2 + 3 + 4 + 5 + 6 + 7);
  HOLDS(stat_of(q.id, DEAD) == 1 && stat_of(q.id, DONE) == 7);
  HOLDS(rounds < 12 && kit_check(&store) == 0);
  kit_batch_free(&b);
}

static void blamed_runs_come_alone(void) {
  kit_queue q = queue_of(NULL);
  kit_batch b = {0};
  uint64_t a = push(q.id, 1), c;
  take(q.id, 1, &b);
  pass(30001);
  c = push(q.id, 5);
  HOLDS(take(q.id, 10, &b) == 1 && b.ids[0] == a);
  HOLDS(settle(q.id, &b, "l") == 0);
  HOLDS(take(q.id, 10, &b) == 1 && b.ids[0] == a);
  HOLDS(kit_done(&store, q.id, &b) == 0);
  HOLDS(take(q.id, 10, &b) == 5 && b.ids[0] == c);
  kit_batch_free(&b);
}

/* ---- settle ------------------------------------------------------------- */

static void all_outcomes_in_one(void) {
  kit_queue q = queue_of(NULL);
  kit_batch b = {0};
  uint64_t id = push(q.id, 10);
  take(q.id, 10, &b);
  HOLDS(settle(q.id, &b, "ddrrppxDdd") == 0);
  HOLDS(stat_of(q.id, RETRYING) == 4 && stat_of(q.id, DEAD) == 1);
  HOLDS(stat_of(q.id, DONE) == 4 && stat_of(q.id, REMOVED) == 1);
  HOLDS(stat_of(q.id, RETRIED) == 4 && kit_check(&store) == 0);
  HOLDS(take(q.id, 10, &b) == 0 && b.head.next_due == store.wall + 1000);
  pass(1000);
  HOLDS(take(q.id, 10, &b) == 4 && b.runs[0].t.attempts == 1);
  uint64_t sum = 0;
  for (size_t i = 0; i < b.n; i++) sum += b.ids[i] - id;
  HOLDS(sum == 2 + 3 + 4 + 5);
  HOLDS(kit_done(&store, q.id, &b) == 0 && stat_of(q.id, BYTES) == 0);
  kit_batch_free(&b);
}

static void what_is_not_marked_stays_leased(void) {
  kit_queue q = queue_of(NULL);
  kit_batch b = {0};
  push(q.id, 6);
  take(q.id, 6, &b);
  HOLDS(settle(q.id, &b, "dp--p-") == 0);
  HOLDS(stat_of(q.id, LEASED) == 3 && stat_of(q.id, RETRYING) == 2);
  HOLDS(kit_check(&store) == 0);
  /* what is left of the batch can still be settled, under its first id that
     lives: the claim moved by two */
  pass(1000);
  kit_batch c = {0};
  HOLDS(take(q.id, 6, &c) == 2);
  HOLDS(kit_done(&store, q.id, &c) == 0);
  pass(30000);
  HOLDS(take(q.id, 6, &c) == 2 && c.runs[0].t.crashes == 1);
  kit_batch_free(&b);
  kit_batch_free(&c);
}

static void a_settle_by_an_old_policy_changes_nothing(void) {
  kit_queue q = queue_of(NULL);
  kit_batch b = {0};
  char name[32];
  push(q.id, 1);
  take(q.id, 1, &b);
  snprintf(name, sizeof name, "q%d", q.id);
  kit_policy other = {.max_crashes = 9};
  HOLDS(kit_queue_save(&store, name, 1, &other).version == 2);
  HOLDS(settle(q.id, &b, "r") == RESPOOL_BUSY);
  HOLDS(failure_is(&kit_why, REFUSED_POLICY));
  kit_settle o = {.outcomes = "r", .policy = 2};
  HOLDS(kit_settle_batch(&store, q.id, &b, &o) == 0);
  kit_batch_free(&b);
}

static void done_items_are_kept_where_the_queue_says(void) {
  kit_policy keep = {.keep_done = 10000};
  kit_queue q = queue_of(&keep);
  kit_batch b = {0};
  push(q.id, 4);
  push(q.id, 2);
  take(q.id, 4, &b);
  store.keep = true;
  HOLDS(kit_done(&store, q.id, &b) == 0 && stat_of(q.id, KEPT) == 4);
  store.keep = false;
  take(q.id, 2, &b);
  kit_settle o = {.outcomes = "dl", .keep = true};
  HOLDS(kit_settle_batch(&store, q.id, &b, &o) == 0);
  HOLDS(stat_of(q.id, KEPT) == 5 && kit_check(&store) == 0);
  pass(9999);
  char sql[100];
  snprintf(sql, sizeof sql, "SELECT history FROM v1_maintain(%d, %lld, 100)",
           q.id, (long long)store.wall);
  HOLDS(kit_number(&store, sql) == 0);
  snprintf(sql, sizeof sql, "SELECT history FROM v1_maintain(%d, %lld, 100)",
           q.id, (long long)store.wall + 1);
  HOLDS(kit_number(&store, sql) == 5 && stat_of(q.id, KEPT) == 0);
  HOLDS(kit_check(&store) == 0);
  kit_batch_free(&b);
}

static void a_push_may_depend_on_a_lease(void) {
  kit_queue q = queue_of(NULL), to = queue_of(NULL);
  kit_batch b = {0};
  push(q.id, 1);
  take(q.id, 1, &b);
  kit_push o = {.owner = b.runs[0].t.first, .token = b.head.token};
  uint64_t id = 0;
  HOLDS(kit_push_items(&store, to.id, 1, &o, &id) == 0 && id > 0);
  kit_done(&store, q.id, &b);
  HOLDS(kit_push_items(&store, to.id, 1, &o, &id) == 0 && id == 0);
  HOLDS(stat_of(to.id, PUSHED) == 1);
  kit_batch_free(&b);
}

/* ---- keys --------------------------------------------------------------- */

static int push_key(int q, int on_conflict, int64_t dedup, uint64_t *id) {
  kit_push o = {.key = "a", .on_conflict = on_conflict, .dedup = dedup};
  return kit_push_items(&store, q, 1, &o, id);
}

static void a_key_is_held_until_its_item_is_over(void) {
  kit_queue q = queue_of(NULL);
  kit_batch b = {0};
  uint64_t a, c;
  HOLDS(push_key(q.id, RESPOOL_CONFLICT_FAIL, 0, &a) == 0);
  HOLDS(push_key(q.id, RESPOOL_CONFLICT_FAIL, 0, &c) == RESPOOL_EXISTS);
  HOLDS(push_key(q.id, RESPOOL_CONFLICT_IGNORE, 0, &c) == 0 && c == a);
  HOLDS(stat_of(q.id, PUSHED) == 1);
  HOLDS(push_key(q.id, RESPOOL_CONFLICT_REPLACE, 0, &c) == 0 && c != a);
  HOLDS(stat_of(q.id, PUSHED) == 2 && stat_of(q.id, REMOVED) == 1);
  HOLDS(take(q.id, 5, &b) == 1 && b.ids[0] == c);
  HOLDS(push_key(q.id, RESPOOL_CONFLICT_REPLACE, 0, &a) == 0);
  HOLDS(stat_of(q.id, LEASED) == 1 && stat_of(q.id, READY) == 1);
  HOLDS(kit_done(&store, q.id, &b) == 0); /* not its key any more */
  HOLDS(push_key(q.id, RESPOOL_CONFLICT_FAIL, 0, &c) == RESPOOL_EXISTS);
  HOLDS(take(q.id, 5, &b) == 1 && settle(q.id, &b, "x") == 0);
  HOLDS(push_key(q.id, RESPOOL_CONFLICT_FAIL, 0, &c) == 0);
  HOLDS(take(q.id, 5, &b) == 1 && settle(q.id, &b, "r") == 0);
  HOLDS(push_key(q.id, RESPOOL_CONFLICT_FAIL, 0, &c) == RESPOOL_EXISTS);
  HOLDS(kit_check(&store) == 0);
  kit_batch_free(&b);
}

static void a_window_holds_a_key_beyond_its_item(void) {
  kit_queue q = queue_of(NULL);
  kit_batch b = {0};
  uint64_t a, c;
  HOLDS(push_key(q.id, RESPOOL_CONFLICT_FAIL, 5000, &a) == 0);
  take(q.id, 1, &b);
  HOLDS(kit_done(&store, q.id, &b) == 0);
  HOLDS(push_key(q.id, RESPOOL_CONFLICT_IGNORE, 5000, &c) == 0 && c == a);
  pass(5001);
  HOLDS(push_key(q.id, RESPOOL_CONFLICT_FAIL, 100, &c) == 0 && c != a);
  take(q.id, 1, &b);
  HOLDS(kit_done(&store, q.id, &b) == 0);
  pass(101);
  char sql[100];
  snprintf(sql, sizeof sql, "SELECT windows FROM v1_maintain(%d, %lld, 100)",
           q.id, (long long)store.wall);
  HOLDS(kit_number(&store, sql) == 1 && kit_check(&store) == 0);
  kit_batch_free(&b);
}

/* ---- bounds and expiry -------------------------------------------------- */

static void a_full_queue_refuses(void) {
  kit_policy p = {.max_items = 5};
  kit_queue q = queue_of(&p);
  kit_batch b = {0};
  push(q.id, 4);
  HOLDS(kit_push_items(&store, q.id, 2, NULL, NULL) == RESPOOL_FULL);
  HOLDS(strstr(respool_error_text(), "max_items is 5") != NULL);
  HOLDS(!strcmp(kit_why.detail, "0 1 -1 0"));
  push(q.id, 1);
  HOLDS(kit_push_items(&store, q.id, 6, NULL, NULL) == RESPOOL_FULL);
  HOLDS(strstr(respool_error_text(), "never hold 6") != NULL);
  HOLDS(!strcmp(kit_why.detail, "0 0 -1 1"));
  take(q.id, 2, &b);
  HOLDS(kit_push_items(&store, q.id, 1, NULL, NULL) == RESPOOL_FULL);
  kit_done(&store, q.id, &b);
  push(q.id, 2);
  HOLDS(stat_of(q.id, READY) == 5);
  kit_batch_free(&b);
}

static void a_queue_is_bounded_in_bytes(void) {
  kit_policy p = {.max_bytes = 3000};
  kit_queue q = queue_of(&p);
  kit_push o = {.body = 1000};
  HOLDS(kit_push_items(&store, q.id, 2, &o, NULL) == 0);
  HOLDS(kit_push_items(&store, q.id, 1, &o, NULL) == RESPOOL_FULL);
  HOLDS(strstr(respool_error_text(), "max_queue_bytes is 3000") != NULL);
}

static void the_oldest_make_room(void) {
  kit_policy p = {.max_items = 5, .overflow = RESPOOL_OVERFLOW_DROP_OLDEST};
  kit_queue q = queue_of(&p);
  kit_batch b = {0};
  uint64_t id = push(q.id, 3);
  pass(1);
  push(q.id, 2);
  take(q.id, 1, &b);
  push(q.id, 3);
  HOLDS(stat_of(q.id, DROPPED) == 3 && stat_of(q.id, REMOVED) == 3);
  HOLDS(stat_of(q.id, LEASED) == 1 && b.ids[0] == id);
  HOLDS(take(q.id, 10, &b) == 4 && b.ids[0] > id + 3);
  HOLDS(kit_push_items(&store, q.id, 1, NULL, NULL) == RESPOOL_FULL);
  HOLDS(kit_check(&store) == 0);
  kit_batch_free(&b);
}

static void expired_items_are_handed_out_to_be_buried(void) {
  kit_queue q = queue_of(NULL);
  kit_batch b = {0};
  kit_push o = {.ttl = 100};
  HOLDS(kit_push_items(&store, q.id, 3, &o, NULL) == 0);
  uint64_t id = push(q.id, 1);
  pass(100);
  HOLDS(take(q.id, 5, &b) == 1 && b.ids[0] == id && b.n_expired == 1);
  HOLDS(settle(q.id, &b, "d") == 0);
  HOLDS(stat_of(q.id, EXPIRED) == 3 && stat_of(q.id, DEAD) == 3);
  HOLDS(kit_check(&store) == 0);
  kit_batch_free(&b);
}

static void leased_items_do_not_expire(void) {
  kit_queue q = queue_of(NULL);
  kit_batch a = {0}, b = {0};
  kit_push o = {.ttl = 100};
  HOLDS(kit_push_items(&store, q.id, 2, &o, NULL) == 0);
  take(q.id, 2, &a);
  pass(200);
  HOLDS(take(q.id, 2, &b) == 0 && b.n_expired == 0);
  HOLDS(settle(q.id, &a, "dl") == 0);
  HOLDS(take(q.id, 2, &b) == 0 && b.n_expired == 1);
  HOLDS(settle(q.id, &b, NULL) == 0 && stat_of(q.id, EXPIRED) == 1);
  kit_batch_free(&a);
  kit_batch_free(&b);
}

static void a_queue_may_drop_what_has_expired(void) {
  kit_policy p = {.drop_expired = true, .ttl = 100, .max_items = 3};
  kit_queue q = queue_of(&p);
  kit_batch b = {0};
  push(q.id, 3);
  pass(100);
  push(q.id, 3); /* room is made of them */
  HOLDS(stat_of(q.id, EXPIRED) == 3 && stat_of(q.id, DEAD) == 0);
  pass(100);
  HOLDS(take(q.id, 3, &b) == 0 && stat_of(q.id, EXPIRED) == 6);
  kit_batch_free(&b);
}

static void a_push_says_what_is_to_be_ended_first(void) {
  kit_policy p = {.max_items = 1};
  kit_queue q = queue_of(&p);
  kit_push o = {.ttl = 100, .key = "a"};
  uint64_t id;
  char wanted[32];
  HOLDS(kit_push_items(&store, q.id, 1, &o, &id) == 0);
  pass(100);
  HOLDS(push_key(q.id, RESPOOL_CONFLICT_FAIL, 0, NULL) == RESPOOL_BUSY);
  snprintf(wanted, sizeof wanted, "%llu", (unsigned long long)id);
  HOLDS(failure_is(&kit_why, REFUSED_EXPIRED));
  HOLDS(!strcmp(kit_why.detail, wanted));
  HOLDS(kit_push_items(&store, q.id, 1, NULL, NULL) == RESPOOL_BUSY);
  HOLDS(failure_is(&kit_why, REFUSED_EXPIRED));
}

/* ---- order and weights -------------------------------------------------- */

static void strict_order_waits_for_the_earlier(void) {
  kit_policy p = {.ordered = true};
  kit_queue q = queue_of(&p);
  kit_batch a = {0}, b = {0};
  uint64_t id = push(q.id, 3);
  push(q.id, 3);
  HOLDS(take(q.id, 2, &a) == 2 && a.ids[0] == id);
  HOLDS(take(q.id, 2, &b) == 0 && b.head.next_due == store.wall + 30000);
  HOLDS(settle(q.id, &a, "pd") == 0); /* the first waits by itself */
  HOLDS(take(q.id, 2, &b) == 0 && b.head.next_due == store.wall + 1000);
  pass(1000);
  HOLDS(take(q.id, 9, &b) == 1 && b.ids[0] == id);
  HOLDS(kit_done(&store, q.id, &b) == 0);
  HOLDS(take(q.id, 9, &b) == 4 && b.ids[0] == id + 2);
  HOLDS(kit_done(&store, q.id, &b) == 0 && kit_check(&store) == 0);
  kit_batch_free(&a);
  kit_batch_free(&b);
}

static void weights_share_out_a_take(void) {
  static const int weights[] = {2, 3, 1, 1};
  kit_policy p = {.weights = weights, .n_weights = 4};
  kit_queue q = queue_of(&p);
  kit_batch b = {0};
  for (int i = 0; i < 3; i++) {
    kit_push o = {.priority = i};
    HOLDS(kit_push_items(&store, q.id, 100, &o, NULL) == 0);
  }
  int n[3] = {0};
  HOLDS(take(q.id, 50, &b) == 50);
  for (size_t i = 0; i < b.n_runs; i++)
    n[b.runs[i].t.priority] += (int)b.runs[i].t.live;
  HOLDS(n[0] == 10 && n[1] == 10 && n[2] == 30);
  HOLDS(kit_done(&store, q.id, &b) == 0);
  HOLDS(take(q.id, 500, &b) == 250 && kit_check(&store) == 0);
  kit_batch_free(&b);
}

/* ---- looking and removing ----------------------------------------------- */

static void items_are_removed_by_id(void) {
  kit_queue q = queue_of(NULL);
  kit_batch b = {0};
  char sql[200];
  uint64_t id = push(q.id, 5);
  take(q.id, 2, &b);
  snprintf(sql, sizeof sql, "SELECT removed * 10 + busy FROM v1_remove(%d, "
           "0, %lld, NULL, NULL, ARRAY[%llu, %llu, %llu, 7]::int8[], false)",
           q.id,
           (long long)store.wall, (unsigned long long)id,
           (unsigned long long)id + 3, (unsigned long long)id + 3);
  HOLDS(kit_number(&store, sql) == 11);
  snprintf(sql, sizeof sql, "SELECT coalesce(sum(live), 0)::int8 FROM "
           "v1_get(%d, %llu)", q.id, (unsigned long long)id + 3);
  HOLDS(kit_number(&store, sql) == 0);
  snprintf(sql, sizeof sql, "SELECT sum(live)::int8 FROM v1_get(%d, %llu)",
           q.id, (unsigned long long)id + 4);
  HOLDS(kit_number(&store, sql) == 2 && kit_check(&store) == 0);
  pass(30001);
  snprintf(sql, sizeof sql, "SELECT removed FROM v1_remove(%d, 0, %lld, "
           "NULL, NULL, ARRAY[%llu]::int8[], false)", q.id,
           (long long)store.wall,
           (unsigned long long)id);
  HOLDS(kit_number(&store, sql) == 1 && kit_check(&store) == 0);
  HOLDS(kit_done(&store, q.id, &b) == 1); /* the lease was at its end */
  snprintf(sql, sizeof sql, "SELECT removed FROM v1_purge(%d, 0, %lld, 100)",
           q.id, (long long)store.wall);
  HOLDS(kit_number(&store, sql) == 3 && stat_of(q.id, REMOVED) == 5);
  HOLDS(kit_check(&store) == 0);
  kit_batch_free(&b);
}

static void looks_show_what_a_take_would_hand_out(void) {
  kit_queue q = queue_of(NULL);
  kit_batch b = {0};
  char sql[300];
  kit_push high = {.priority = 1}, late = {.delay = 1000};
  push(q.id, 3);
  kit_push_items(&store, q.id, 2, &high, NULL);
  kit_push_items(&store, q.id, 1, &late, NULL);
  snprintf(sql, sizeof sql, "SELECT sum(live * 10 ^ priority)::int8 FROM "
           "v1_peek(%d, %lld, 10)", q.id, (long long)store.wall);
  HOLDS(kit_number(&store, sql) == 23);
  take(q.id, 1, &b);
  static const struct {
    int state, items;
  } states[] = {{-1, 6}, {0, 4}, {1, 1}, {2, 1}};
  for (int i = 0; i < 4; i++) {
    snprintf(sql, sizeof sql, "SELECT sum(live)::int8 FROM v1_browse(%d, "
             "%lld, %d, 100, 255::int2, 0::int2, 0, 0)", q.id,
             (long long)store.wall, states[i].state);
    HOLDS(kit_number(&store, sql) == states[i].items);
  }
  kit_batch_free(&b);
}

static void a_queue_with_leased_items_is_not_dropped(void) {
  kit_queue q = queue_of(NULL);
  kit_batch b = {0};
  values v;
  request r;
  char name[32];
  snprintf(name, sizeof name, "q%d", q.id);
  values_init(&v);
  put_text(&v, name);
  put_int4(&v, 0);
  put_int8(&v, store.wall);
  put_bool(&v, true);
  put_int4(&v, 100);
  push(q.id, 2);
  take(q.id, 1, &b);
  HOLDS(kit_call(&store, &r, &v, STATEMENT_QUEUE_DROP, false) ==
        RESPOOL_BUSY);
  HOLDS(stat_of(q.id, PAUSED) == 0 && stat_of(q.id, REMOVED) == 0);
  kit_done(&store, q.id, &b);
  HOLDS(kit_call(&store, &r, &v, STATEMENT_QUEUE_DROP, false) == 0);
  HOLDS(value_int(r.result, 0, 0) == 1 && !value_bool(r.result, 0, 1));
  request_clear(&r);
  HOLDS(kit_push_items(&store, q.id, 1, NULL, NULL) == RESPOOL_NOT_FOUND);
  HOLDS(kit_take_items(&store, q.id, 1, NULL, &b) == RESPOOL_NOT_FOUND);
  values_free(&v);
  kit_batch_free(&b);
}

/* ---- dead letters and replays ------------------------------------------- */

static int64_t number_of(const char *form, int q) {
  char sql[300];
  snprintf(sql, sizeof sql, form, q);
  return kit_number(&store, sql);
}

static void dead_letters_are_numbered_and_counted(void) {
  kit_queue q = queue_of(NULL);
  kit_batch b = {0};
  push(q.id, 6);
  take(q.id, 6, &b);
  HOLDS(settle(q.id, &b, "xxxxxl") == 0);
  HOLDS(number_of("SELECT v1_dead_count('q%d')", q.id) == 5);
  HOLDS(number_of("SELECT count FROM v1_dead_groups('q%d', NULL)", q.id) == 5);
  HOLDS(number_of("SELECT sum(number)::int8 FROM v1_dead_list('q%d', 1, 4, "
                  "10, false, NULL, 0)", q.id) == 2 + 3 + 4);
  HOLDS(number_of("SELECT number FROM v1_dead_list('q%d', 0, 0, 1, true, "
                  "'dead', 0)", q.id) == 5);
  HOLDS(number_of("SELECT count(*) FROM v1_dead_list('q%d', 0, 0, 1, true, "
                  "'other', 0)", q.id) == 0);
  HOLDS(number_of("SELECT removed FROM v1_dead_remove('q%d', NULL, NULL, "
                  "ARRAY[2, 9]::int8[], false)", q.id) == 1);
  HOLDS(number_of("SELECT v1_dead_count('q%d')", q.id) == 4);
  HOLDS(number_of("SELECT removed FROM v1_dead_purge('q%d', 0, 1000, 1, "
                  "NULL)", q.id) == 0);
  HOLDS(number_of("SELECT removed FROM v1_dead_purge('q%d', 0, 2, 0, "
                  "NULL)", q.id) == 2);
  HOLDS(number_of("SELECT removed FROM v1_dead_purge('q%d', 3, 1000, 0, "
                  "'dead')", q.id) == 2);
  HOLDS(number_of("SELECT v1_dead_count('q%d')", q.id) == 0);
  HOLDS(kit_check(&store) == 0);
  kit_batch_free(&b);
}

static int save_replay(const char *record, int64_t revision) {
  values v;
  request r;
  values_init(&v);
  put_text(&v, "again");
  put_null(&v);
  put_null(&v);
  put_int8(&v, revision);
  put_bytes(&v, (respool_bytes){record, strlen(record)});
  int rc = kit_call(&store, &r, &v, STATEMENT_REPLAY_SAVE, false);
  request_clear(&r);
  values_free(&v);
  return rc;
}

static void a_replay_is_one_runner_s(void) {
  HOLDS(save_replay("one", 0) == 0);
  HOLDS(save_replay("two", 1) == 0);
  HOLDS(save_replay("three", 1) == RESPOOL_LOCKED);
  HOLDS(save_replay("three", 0) == RESPOOL_LOCKED);
  HOLDS(kit_number(&store, "SELECT count(*) FROM v1_names(2)") == 1);
  HOLDS(kit_number(&store, "SELECT 1 FROM v1_replay_remove('again')") == 1);
}

/* A move is a removal and a push in one: if one dead letter is gone, nothing
   has happened. */
static void a_unit_falls_as_one(void) {
  kit_queue q = queue_of(NULL);
  values v[2];
  request r[2];
  uint64_t id;
  HOLDS(session_ids(&store.s, 1, &id) == 0);
  values_init(&v[0]);
  values_init(&v[1]);
  call c = {.requests = r, .n = 2, .changes = true};
  call_new_id(&c, &store.chance);
  put_text(&v[0], "again");
  put_uuid(&v[0], c.id);
  put_int2(&v[0], 0);
  put_int8(&v[0], 0);
  put_bytes(&v[0], (respool_bytes){"x", 1});
  put_text(&v[1], "nowhere");
  put_uuid(&v[1], c.id);
  put_int2(&v[1], 1);
  array_begin(&v[1], TYPE_INT8, 1);
  add_int8(&v[1], 1);
  array_end(&v[1]);
  put_bool(&v[1], true);
  r[0] = (request){.statement = STATEMENT_REPLAY_SAVE, .values = &v[0]};
  r[1] = (request){.statement = STATEMENT_DEAD_REMOVE, .values = &v[1]};
  HOLDS(call_run(&store.s, &c) == RESPOOL_NOT_FOUND);
  HOLDS(kit_number(&store, "SELECT count(*) FROM replay") == 0);
  HOLDS(kit_number(&store, "SELECT count(*) FROM v1_names(1) n WHERE n = "
                           "'nowhere'") == 0);
  call_clear(&c);
  values_free(&v[0]);
  values_free(&v[1]);
  push(q.id, 1);
}

/* ---- races -------------------------------------------------------------- */

typedef struct racer {
  kit k;
  kit_batch b;
  size_t n;
  pthread_barrier_t *start;
  int queue;
} racer;

static void *race_take(void *arg) {
  racer *r = arg;
  pthread_barrier_wait(r->start);
  r->n = kit_take_items(&r->k, r->queue, 10, NULL, &r->b) ? 0 : r->b.n;
  return NULL;
}

static void of_two_that_take_one_gets_it(void) {
  static racer r[2];
  kit_queue q = queue_of(NULL);
  pthread_barrier_t start;
  int none = 0, both = 0;
  pthread_barrier_init(&start, NULL, 2);
  for (int i = 0; i < 2; i++) {
    kit_open(&r[i].k, location, schema, false);
    r[i].start = &start;
    r[i].queue = q.id;
    r[i].k.wall = store.wall;
  }
  for (int k = 0; k < 200; k++) {
    pthread_t t[2];
    push(q.id, 10);
    for (int i = 0; i < 2; i++)
      pthread_create(&t[i], NULL, race_take, &r[i]);
    for (int i = 0; i < 2; i++) pthread_join(t[i], NULL);
    none += !r[0].n && !r[1].n;
    both += r[0].n && r[1].n;
    HOLDS(kit_done(&store, q.id, &r[r[0].n ? 0 : 1].b) == 0);
  }
  HOLDS(none == 0 && both == 0);
  for (int i = 0; i < 2; i++) {
    kit_batch_free(&r[i].b);
    kit_close(&r[i].k);
  }
}

/* A unit that locks "b" and then "a". */
typedef struct crossing {
  kit k;
  int rc;
  int64_t revision; /* of both */
} crossing;

static void *cross(void *arg) {
  static const char *const names[] = {"b", "a"};
  crossing *x = arg;
  values v[2];
  request r[2];
  call c = {.requests = r, .n = 2, .changes = true};
  call_new_id(&c, &x->k.chance);
  for (int i = 0; i < 2; i++) {
    values_init(&v[i]);
    put_text(&v[i], names[i]);
    put_uuid(&v[i], c.id);
    put_int2(&v[i], i);
    put_int8(&v[i], x->revision);
    put_bytes(&v[i], (respool_bytes){"unit", 4});
    r[i] = (request){.statement = STATEMENT_REPLAY_SAVE, .values = &v[i]};
  }
  x->rc = call_run(&x->k.s, &c);
  x->revision++;
  call_clear(&c);
  for (int i = 0; i < 2; i++) values_free(&v[i]);
  return NULL;
}

static int script(kit *k, const char *sql) {
  pg_failure f;
  return connection_script(&k->s.at, sql, clock_mono() + 60000, &f);
}

/* Another transaction holds "a" and then wants "b". True when the unit was
   the one to be given up and tried again, not the other. */
static bool deadlock(kit *other, crossing *x) {
  pthread_t t;
  HOLDS(script(other, "BEGIN; UPDATE replay SET record = 'x' WHERE name = "
                      "'a'") == 0);
  pthread_create(&t, NULL, cross, x);
  while (kit_number(&store, "SELECT count(*) FROM pg_locks WHERE NOT "
                            "granted") == 0)
    continue;
  int rc = script(other, "UPDATE replay SET record = 'x' WHERE name = 'b'");
  HOLDS(script(other, rc ? "ROLLBACK" : "COMMIT") == 0);
  pthread_join(t, NULL);
  HOLDS(x->rc == 0);
  HOLDS(kit_number(&store, "SELECT count(*) FROM replay WHERE record = "
                           "'unit'") == 2);
  return rc == 0;
}

static void a_deadlock_is_tried_again(void) {
  static crossing x;
  kit other;
  bool tried = false;
  kit_open(&x.k, location, schema, false);
  kit_open(&other, location, schema, false);
  kit_number(&other, "SELECT 1"); /* sets its search_path */
  cross(&x);
  for (int i = 0; i < 20 && !tried; i++) tried = deadlock(&other, &x);
  HOLDS(tried);
  kit_number(&store, "SELECT count(v1_replay_remove(r.name)) FROM replay r");
  kit_close(&x.k);
  kit_close(&other);
}

/* ---- unknown outcomes --------------------------------------------------- */

/* The connection goes between the sending and the answer. */
static void a_lost_answer_is_found_out(void) {
  kit other;
  values v;
  request r;
  call c = {.requests = &r, .n = 1, .changes = true};
  pg_failure f;
  kit_open(&other, location, schema, false);
  for (int happens = 0; happens < 2; happens++) {
    call_new_id(&c, &store.chance);
    values_init(&v);
    put_text(&v, "lost");
    put_uuid(&v, c.id);
    put_int2(&v, 0);
    put_int8(&v, 0);
    put_bytes(&v, (respool_bytes){"x", 1});
    values_end(&v);
    r = (request){.statement = STATEMENT_REPLAY_SAVE, .values = &v};
    if (happens)
      HOLDS(connection_run(&other.s.at, &r, 1, false, clock_mono() + 60000,
                           &f) == 0);
    request_clear(&r);
    values ask;
    request w;
    values_init(&ask);
    put_uuid(&ask, c.id);
    values_end(&ask);
    HOLDS(kit_call(&store, &w, &ask, STATEMENT_RESOLVE, false) == 0);
    HOLDS(value_bool(w.result, 0, 0) == happens);
    request_clear(&w);
    /* it cannot happen now, or not twice */
    int rc = connection_run(&other.s.at, &r, 1, false, clock_mono() + 60000,
                            &f);
    HOLDS(rc == -1 && failure_is(&f, happens ? "RS011" : "23505"));
    request_clear(&r);
    values_free(&v);
    values_free(&ask);
  }
  kit_close(&other);
}

/* A standby that is not there is waited for, until somebody cancels that. */
static void *cancel_the_wait(void *arg) {
  char sql[200];
  snprintf(sql, sizeof sql, "SELECT count(pg_cancel_backend(pid)) FROM "
           "pg_stat_activity WHERE pid = %d AND wait_event = 'SyncRep'",
           *(int *)arg);
  while (kit_number(&store, sql) == 0) usleep(10000);
  return NULL;
}

static void a_commit_that_no_standby_has_is_unknown(void) {
  kit_queue q = queue_of(NULL);
  kit other;
  pthread_t t;
  kit_open(&other, location, schema, false);
  other.wall = store.wall;
  int pid = (int)kit_number(&other, "SELECT pg_backend_pid()");
  HOLDS(session_ids(&other.s, 1, &(uint64_t){0}) == 0);
  HOLDS(script(&store, "ALTER SYSTEM SET synchronous_standby_names = 'x'") ==
        0);
  kit_number(&store, "SELECT count(pg_reload_conf())");
  while (kit_number(&store, "SELECT count(*) FROM pg_settings WHERE name = "
                            "'synchronous_standby_names' AND setting = 'x'")
         == 0)
    usleep(10000);
  pthread_create(&t, NULL, cancel_the_wait, &pid);
  int rc = kit_push_items(&other, q.id, 1, NULL, NULL);
  pthread_join(t, NULL);
  HOLDS(script(&store, "ALTER SYSTEM RESET synchronous_standby_names") == 0);
  kit_number(&store, "SELECT count(pg_reload_conf())");
  HOLDS(rc == RESPOOL_UNKNOWN_OUTCOME);
  HOLDS(stat_of(q.id, PUSHED) == 1);
  kit_close(&other);
}

static void a_killed_connection_is_replaced(void) {
  kit_queue q = queue_of(NULL);
  kit other;
  kit_open(&other, location, schema, false);
  other.wall = store.wall;
  HOLDS(kit_push_items(&other, q.id, 1, NULL, NULL) == 0);
  char sql[100];
  snprintf(sql, sizeof sql, "SELECT count(pg_terminate_backend(%d))",
           (int)kit_number(&other, "SELECT pg_backend_pid()"));
  kit_number(&store, sql);
  HOLDS(kit_push_items(&other, q.id, 1, NULL, NULL) == 0);
  HOLDS(stat_of(q.id, READY) == 2);
  kit_close(&other);
}

static void a_child_process_is_refused(void) {
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) {
    values v;
    request r;
    values_init(&v);
    int rc = kit_call(&store, &r, &v, STATEMENT_PROBE_READ, false);
    kit_close(&store);
    _exit(rc == RESPOOL_FORKED ? 0 : 1);
  }
  int status = 1;
  HOLDS(waitpid(pid, &status, 0) == pid && status == 0);
  HOLDS(kit_number(&store, "SELECT 1") == 1);
}

/* ---- rights ------------------------------------------------------------- */

static void drop_roles(void) {
  static const char *const roles[] = {"push", "work", "admin"};
  char sql[200];
  for (int i = 0; i < 3; i++) {
    snprintf(sql, sizeof sql, "DROP OWNED BY \"%s_%s\"; DROP ROLE \"%s_%s\"",
             schema, roles[i], schema, roles[i]);
    HOLDS(script(&store, sql) == 0);
  }
}

/* Roles have the rights that they need, and none on tables. */
static void roles_may_call_functions_alone(void) {
  static const struct {
    const char *role;
    int push, take, drop;
  } may[] = {{"push", 1, 0, 0}, {"work", 1, 1, 0}, {"admin", 1, 1, 1}};
  bool granted = false;
  char sql[500];
  HOLDS(schema_grant(&store.s, &granted) == 0 && granted);
  for (int i = 0; i < 3; i++) {
    snprintf(sql, sizeof sql, "SELECT sum(CASE WHEN has_function_privilege("
             "'%s_%s', oid, 'EXECUTE') THEN CASE proname WHEN 'v1_push' THEN "
             "1 WHEN 'v1_take' THEN 10 WHEN 'v1_queue_drop' THEN 100 ELSE 0 "
             "END ELSE 0 END)::int8 FROM pg_proc WHERE pronamespace = "
             "'%s'::regnamespace", schema, may[i].role, schema);
    HOLDS(kit_number(&store, sql) ==
          may[i].push + 10 * may[i].take + 100 * may[i].drop);
    snprintf(sql, sizeof sql, "SELECT count(*) FROM pg_class WHERE "
             "relnamespace = '%s'::regnamespace AND relkind = 'r' AND "
             "has_table_privilege('%s_%s', oid, 'SELECT, INSERT, UPDATE, "
             "DELETE')", schema, schema, may[i].role);
    HOLDS(kit_number(&store, sql) == 0);
  }
  snprintf(sql, sizeof sql, "SET SESSION AUTHORIZATION \"%s_push\"", schema);
  kit_batch b = {0};
  HOLDS(script(&store, sql) == 0);
  HOLDS(kit_take_items(&store, 1, 1, NULL, &b) == RESPOOL_DENIED);
  HOLDS(script(&store, "RESET SESSION AUTHORIZATION") == 0);
  drop_roles();
}

/* ---- plans -------------------------------------------------------------- */

/* Tables that were never analysed, and are empty. */
static bool plan_has(const char *sql, const char *index) {
  char text[1000];
  snprintf(text, sizeof text, "EXPLAIN %s", sql);
  int64_t end = clock_mono() + 60000;
  pg_failure f;
  connection_script(&store.s.at, "SET enable_seqscan = off", end, &f);
  bool found = false;
  pq.sendQueryParams(store.s.at.c, text, 0, NULL, NULL, NULL, NULL, 0);
  pq.pipelineSync(store.s.at.c);
  pq.setnonblocking(store.s.at.c, 0);
  for (int status = 0; status != PG_PIPELINE_SYNC;) {
    PGresult *r = pq.getResult(store.s.at.c);
    if (!r) continue;
    status = pq.resultStatus(r);
    for (int i = 0; status == PG_TUPLES_OK && i < pq.ntuples(r); i++)
      found |= strstr(pq.getvalue(r, i, 0), index) != NULL;
    if (status > PG_TUPLES_OK && status != PG_PIPELINE_SYNC)
      printf("%s: %s\n", sql, pq.resultErrorField(r, PG_MESSAGE));
    pq.clear(r);
  }
  pq.setnonblocking(store.s.at.c, 1);
  return found;
}

/* The server may come to analyse tables at any time, unless it is told not to;
   what it finds changes its plans. */
static void leave_tables_as_they_are(void) {
  kit_number(&store, "SELECT 1"); /* search_path */
  HOLDS(script(&store, "DO $$ DECLARE t regclass; BEGIN FOR t IN SELECT oid "
               "FROM pg_class WHERE relnamespace = current_schema"
               "::regnamespace AND relkind = 'r' LOOP EXECUTE format('ALTER "
               "TABLE %s SET (autovacuum_enabled = off)', t); END LOOP; "
               "END $$") == 0);
}

static void hot_statements_use_one_index(void) {
  kit_number(&store, "SELECT 1"); /* search_path */
  HOLDS(plan_has("SELECT ctid FROM run x WHERE queue = 1 AND priority = "
                 "0::int2 AND fresh = 1::int2 AND due >= 0 AND due <= 9 "
                 "ORDER BY due, first FOR UPDATE SKIP LOCKED",
                 "using run_due"));
  HOLDS(plan_has("SELECT ctid FROM run x WHERE queue = 1 AND priority = "
                 "0::int2 AND seq IS NOT NULL ORDER BY seq, first",
                 "using run_seq"));
  HOLDS(plan_has("SELECT FROM run WHERE queue = 1 AND expires_at <= 9 AND "
                 "state <> 1", "using run_expires"));
  HOLDS(plan_has("DELETE FROM run WHERE first = ANY ('{1,2}'::int8[]) AND "
                 "epoch = 5 AND state = 1", "on run_pkey"));
  HOLDS(plan_has("UPDATE run x SET due = 1 FROM unnest('{1}'::int8[]) "
                 "AS f(first) WHERE x.first = f.first", "using run_pkey"));
  HOLDS(plan_has("UPDATE run x SET due = 1 FROM unnest('{\"(0,1)\"}'::tid[]) "
                 "AS f(tid) WHERE x.ctid = f.tid", "Tid Scan"));
}

int main(int n, char **v) {
  if (n != 2) return 2;
  location = v[1];
  snprintf(schema, sizeof schema, "spec_%d", (int)getpid());
  kit_open(&store, location, schema, true);
  leave_tables_as_they_are();
  hot_statements_use_one_index();
  store.wall = 1000000000000;
  higher_priorities_come_first();
  a_take_spans_priorities_and_pushes();
  a_run_is_handed_out_in_parts();
  runs_with_holes_are_cut_too();
  a_take_is_bounded_in_bytes_but_for_one_item();
  scheduled_items_wait();
  a_paused_queue_hands_nothing_out();
  marks_step_over_what_is_gone();
  a_lease_that_ran_out_is_fenced();
  an_extended_lease_holds();
  a_poison_item_is_alone_in_the_end();
  blamed_runs_come_alone();
  all_outcomes_in_one();
  what_is_not_marked_stays_leased();
  a_settle_by_an_old_policy_changes_nothing();
  done_items_are_kept_where_the_queue_says();
  a_push_may_depend_on_a_lease();
  a_key_is_held_until_its_item_is_over();
  a_window_holds_a_key_beyond_its_item();
  a_full_queue_refuses();
  a_queue_is_bounded_in_bytes();
  the_oldest_make_room();
  expired_items_are_handed_out_to_be_buried();
  leased_items_do_not_expire();
  a_queue_may_drop_what_has_expired();
  a_push_says_what_is_to_be_ended_first();
  strict_order_waits_for_the_earlier();
  weights_share_out_a_take();
  items_are_removed_by_id();
  looks_show_what_a_take_would_hand_out();
  a_queue_with_leased_items_is_not_dropped();
  dead_letters_are_numbered_and_counted();
  a_replay_is_one_runner_s();
  a_unit_falls_as_one();
  of_two_that_take_one_gets_it();
  a_deadlock_is_tried_again();
  a_lost_answer_is_found_out();
  a_commit_that_no_standby_has_is_unknown();
  a_killed_connection_is_replaced();
  a_child_process_is_refused();
  roles_may_call_functions_alone();
  HOLDS(kit_check(&store) == 0);
  HOLDS(schema_drop(&store.s) == 0);
  kit_close(&store);
  return wrong != 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * What a take gives, in which order, and its leases.
 */
#include "base/clock.h"
#include "verbs.h"

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
  marks m = {0};
  kit_take all = {.marks = &m, .how = LOOK_ALL};
  kit_take on = {.marks = &m, .how = LOOK_ON};
  push(q.id, 1);
  HOLDS(kit_take_items(&store, q.id, 1, &all, &b) == 0 && b.n == 1);
  HOLDS(m.n == 4 && m.at[1] == store.wall && m.at[3] == store.wall);
  kit_done(&store, q.id, &b);
  push(q.id, 1);
  HOLDS(kit_take_items(&store, q.id, 1, &on, &b) == 0 && b.n == 1);
  kit_done(&store, q.id, &b);
  push(q.id, 1);
  m.at[1] = m.at[3] = store.wall + 1;
  HOLDS(kit_take_items(&store, q.id, 1, &on, &b) == 0 && b.n == 0);
  on.how = LOOK_BACK;
  HOLDS(kit_take_items(&store, q.id, 1, &on, &b) == 0 && b.n == 1);
  marks_free(&m);
  kit_batch_free(&b);
}

static void marks_hide_nothing_for_long(void) {
  kit_queue q = queue_of(NULL);
  kit_batch b = {0};
  marks m = {0};
  kit_take all = {.marks = &m, .how = LOOK_ALL, .late = 3600000};
  kit_push high = {.priority = 7}, low = {.priority = -7};
  HOLDS(kit_push_items(&store, q.id, 1, &low, NULL) == 0);
  HOLDS(kit_take_items(&store, q.id, 1, &all, &b) == 0 && b.n == 1);
  HOLDS(marks_look(&m) != LOOK_ALL && m.look_all <= clock_mono() + 60000);
  size_t low_ones = m.n;
  HOLDS(kit_push_items(&store, q.id, 1, &high, NULL) == 0);
  HOLDS(kit_take_items(&store, q.id, 1, &all, &b) == 0 && b.n == 1);
  HOLDS(low_ones == 4 && m.n == 4); /* those of the low priority are gone */
  marks_free(&m);
  kit_batch_free(&b);
}

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

int main(int n, char **v) {
  verbs_open(n, v);
  higher_priorities_come_first();
  a_take_spans_priorities_and_pushes();
  a_run_is_handed_out_in_parts();
  runs_with_holes_are_cut_too();
  a_take_is_bounded_in_bytes_but_for_one_item();
  scheduled_items_wait();
  a_paused_queue_hands_nothing_out();
  marks_step_over_what_is_gone();
  marks_hide_nothing_for_long();
  a_lease_that_ran_out_is_fenced();
  an_extended_lease_holds();
  a_poison_item_is_alone_in_the_end();
  blamed_runs_come_alone();
  strict_order_waits_for_the_earlier();
  weights_share_out_a_take();
  return verbs_close();
}

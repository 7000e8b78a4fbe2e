/* SPDX-License-Identifier: MIT */
/*
 * What a settle does with items, keys, dead letters and replays; items that are
 * looked at and removed.
 */
#include "verbs.h"

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
  snprintf(sql, sizeof sql, "SELECT coalesce(sum(numbers[7]), 0)::int8 "
           "FROM v1_get(%d, %llu)", q.id, (unsigned long long)id + 3);
  HOLDS(kit_number(&store, sql) == 0);
  snprintf(sql, sizeof sql, "SELECT sum(numbers[7])::int8 FROM v1_get(%d, "
           "%llu)",
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
  snprintf(sql, sizeof sql, "SELECT sum(numbers[7] * 10 ^ numbers[10])::int8 "
           "FROM v1_peek(%d, %lld, 10)", q.id, (long long)store.wall);
  HOLDS(kit_number(&store, sql) == 23);
  take(q.id, 1, &b);
  static const struct {
    int state, items;
  } states[] = {{-1, 6}, {0, 4}, {1, 1}, {2, 1}};
  for (int i = 0; i < 4; i++) {
    snprintf(sql, sizeof sql, "SELECT sum(numbers[7])::int8 FROM v1_browse(%d, "
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
  put_text(&v[0], "again");
  call_put(&c, &v[0], true);
  put_int8(&v[0], 0);
  put_bytes(&v[0], (respool_bytes){"x", 1});
  put_text(&v[1], "nowhere");
  call_put(&c, &v[1], false);
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

int main(int n, char **v) {
  verbs_open(n, v);
  all_outcomes_in_one();
  what_is_not_marked_stays_leased();
  a_settle_by_an_old_policy_changes_nothing();
  done_items_are_kept_where_the_queue_says();
  a_push_may_depend_on_a_lease();
  a_key_is_held_until_its_item_is_over();
  a_window_holds_a_key_beyond_its_item();
  items_are_removed_by_id();
  looks_show_what_a_take_would_hand_out();
  a_queue_with_leased_items_is_not_dropped();
  dead_letters_are_numbered_and_counted();
  a_replay_is_one_runner_s();
  a_unit_falls_as_one();
  return verbs_close();
}

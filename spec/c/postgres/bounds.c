/* SPDX-License-Identifier: MIT */
/*
 * Queues that are full, and items that expire.
 */
#include "verbs.h"

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

int main(int n, char **v) {
  verbs_open(n, v);
  a_full_queue_refuses();
  a_queue_is_bounded_in_bytes();
  the_oldest_make_room();
  expired_items_are_handed_out_to_be_buried();
  leased_items_do_not_expire();
  a_queue_may_drop_what_has_expired();
  a_push_says_what_is_to_be_ended_first();
  return verbs_close();
}

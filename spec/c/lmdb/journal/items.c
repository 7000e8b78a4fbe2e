/* SPDX-License-Identifier: MIT */
/*
 * The life of an item in the journal.
 */
#include "kit.h"

#include <fcntl.h>

static void an_item_is_pushed_taken_and_done(void) {
  begin();
  HOLDS(push(&a, 1, "one") == 1);
  WORKS(stand_open(&b, dir, HALF));
  HOLDS(push(&b, 1, "two") == 2);
  taken x = take(&b, 1, 60000), y = take(&a, 1, 60000);
  HOLDS(x.id == 1 && says(x, "one") && x.deliveries == 1);
  HOLDS(y.id == 2 && says(y, "two") && y.token > x.token);
  HOLDS(take(&a, 1, 60000).id == 0);
  HOLDS(done(&a, 1, x) == 1);
  HOLDS(done(&b, 1, y) == 1);
  lies(0, 0);
  count(1, 2, 2);
  end();
}

static void a_queue_has_ids_of_its_own(void) {
  begin();
  for (int i = 1; i <= 3; i++)
    for (uint64_t q = 1; q <= 3; q++)
      HOLDS(push(&a, q, "x") == (uint64_t)i);
  HOLDS(take(&a, 2, 60000).id == 1);
  HOLDS(take(&a, 3, 60000).id == 1);
  end();
}

static void a_token_that_is_not_current_changes_nothing(void) {
  begin();
  push(&a, 1, "x");
  taken t = take(&a, 1, 60000), other = t;
  other.token++;
  uint8_t o;
  journal_done_req r = {.queue = 1, .ids = &t.id, .tokens = &other.token,
                        .n = 1, .outcome = &o};
  HOLDS(journal_done(a.j, &r, false) == 0 && r.done == 0);
  HOLDS(o == JOURNAL_LOST);
  HOLDS(done(&a, 1, t) == 1);
  HOLDS(done(&a, 1, t) == 0);
  end();
}

static void an_id_that_comes_twice_is_done_once(void) {
  begin();
  push(&a, 1, "x");
  taken t = take(&a, 1, 60000);
  uint64_t ids[2] = {t.id, t.id}, tokens[2] = {t.token, t.token};
  uint8_t o[2];
  HOLDS(stand_done(&a, 1, ids, tokens, 2, o) == 1);
  HOLDS(o[0] == JOURNAL_DONE && o[1] == JOURNAL_LOST);
  count(1, 1, 1);
  end();
}

static void a_strict_done_is_all_or_none(void) {
  begin();
  push(&a, 1, "x");
  push(&a, 1, "y");
  taken x = take(&a, 1, 60000), y = take(&a, 1, 60000);
  uint64_t ids[2] = {x.id, y.id}, tokens[2] = {x.token, y.token + 1};
  uint8_t o[2];
  journal_done_req r = {.queue = 1, .ids = ids, .tokens = tokens, .n = 2,
                        .outcome = o};
  HOLDS(journal_done(a.j, &r, true) == 0 && r.done == 0);
  lies(0, 2);
  WORKS(stand_apply(&a, JOURNAL_ALL, true));
  push(&a, 1, "z");
  HOLDS(journal_done(a.j, &r, true) == JOURNAL_ELSEWHERE);
  end();
}

static void a_lease_that_ran_out_is_blamed_in_lmdb(void) {
  begin();
  push(&a, 1, "x");
  taken t = take(&a, 1, 1);
  usleep(3000);
  taken again = take(&a, 1, 60000);
  HOLDS(again.id == t.id && again.crashes == 1 && again.deliveries == 2);
  HOLDS(done(&a, 1, t) == 0);
  lies(1, 0);
  HOLDS(done(&a, 1, again) == 1);
  count(1, 1, 1);
  end();
}

static void a_retry_goes_on_in_lmdb(void) {
  begin();
  push(&a, 1, "x");
  taken t = take(&a, 1, 60000);
  WORKS(stand_retry(&a, 1, t.id, t.token, 60000));
  HOLDS(push(&a, 1, "y") == 2);
  lies(1, 1);
  HOLDS(take(&a, 1, 60000).id == 2); /* LMDB has nothing due */
  WORKS(stand_open(&b, dir, HALF));
  HOLDS(take(&b, 1, 60000).id == 0);
  end();
}

static void the_highest_priority_goes_first(void) {
  begin();
  push(&a, 1, "first makes the row");
  HOLDS(done(&a, 1, take(&a, 1, 60000)) == 1);
  static const int priority[] = {0, 7, 3, 7, 0};
  for (int i = 0; i < 5; i++) {
    respool_bytes p = {"x", 1};
    journal_push_req r = {.queue = 1, .priority = priority[i],
                          .now = now_ms(), .items = &p, .n = 1};
    WORKS(journal_push(a.j, &r));
    WORKS(journal_flush(a.j, r.end));
  }
  static const uint64_t order[] = {3, 5, 4, 2, 6};
  for (int i = 0; i < 5; i++) HOLDS(take(&a, 1, 60000).id == order[i]);
  end();
}

static void what_has_expired_is_lmdbs(void) {
  begin();
  push(&a, 1, "row");
  HOLDS(done(&a, 1, take(&a, 1, 60000)) == 1);
  respool_bytes p = {"x", 1};
  int64_t now = now_ms();
  journal_push_req r = {.queue = 1, .now = now, .expires = now + 5,
                        .items = &p, .n = 1};
  WORKS(journal_push(a.j, &r));
  journal_item i;
  journal_take_req t = {.queue = 1, .bytes = 100, .now = now + 4,
                        .until = now + 1000, .items = &i, .to = &memory};
  HOLDS(journal_take(a.j, &t) == 0 && t.next == now + 5);
  t.now = now + 5;
  t.max = 1;
  HOLDS(journal_take(a.j, &t) == JOURNAL_ELSEWHERE);
  end();
}

static void nothing_is_handed_out_before_it_is_flushed(void) {
  begin();
  push(&a, 1, "row");
  HOLDS(done(&a, 1, take(&a, 1, 60000)) == 1);
  respool_bytes p = {"x", 1};
  journal_push_req r = {.queue = 1, .now = now_ms(), .items = &p, .n = 1};
  WORKS(journal_push(a.j, &r));
  HOLDS(state().flushed < r.end);
  no_flush = 1;
  journal_item i;
  int64_t now = now_ms();
  journal_take_req t = {.queue = 1, .bytes = 100, .now = now, .max = 1,
                        .until = now + 1000, .items = &i, .to = &memory};
  HOLDS(journal_take(a.j, &t) == RESPOOL_IO && t.n == 0);
  WORKS(stand_mend(&a));
  HOLDS(take(&a, 1, 60000).id == 2);
  end();
}

static void what_is_too_large_or_too_many_goes_to_lmdb(void) {
  static char large[JOURNAL_PUSH];
  static respool_bytes many[JOURNAL_BATCH + 1];
  begin();
  uint64_t id;
  push(&a, 1, "x");
  memset(large, 'l', sizeof large);
  respool_bytes p = {large, sizeof large};
  journal_push_req r = {.queue = 1, .items = &p, .n = 1};
  HOLDS(journal_push(a.j, &r) == JOURNAL_ELSEWHERE);
  for (int i = 0; i <= JOURNAL_BATCH; i++) many[i] = (respool_bytes){"m", 1};
  r.items = many;
  r.n = JOURNAL_BATCH + 1;
  HOLDS(journal_push(a.j, &r) == JOURNAL_ELSEWHERE);
  WORKS(stand_push(&a, 1, &p, 1, &id));
  HOLDS(id == 2);
  lies(2, 0);
  HOLDS(take(&a, 1, 60000).id == 1); /* in order over both */
  HOLDS(take(&a, 1, 60000).bytes.size == sizeof large);
  r.n = 0;
  HOLDS(journal_push(a.j, &r) == RESPOOL_INVALID);
  end();
}

static void more_queues_than_rows(void) {
  begin();
  for (uint64_t turn = 1; turn <= 2; turn++)
    for (uint64_t q = 1; q <= JOURNAL_QUEUES + 40; q++) {
      respool_bytes p = {"x", 1};
      journal_push_req r = {.queue = q, .now = now_ms(), .items = &p, .n = 1};
      int rc = journal_queue(a.j, q, turn);
      if (rc == JOURNAL_ELSEWHERE) {
        WORKS(stand_apply(&a, JOURNAL_ALL, true)); /* of 8 queues it keeps */
        rc = journal_queue(a.j, q, turn);
      }
      if (q <= SIDE_QUEUES) {
        HOLDS(rc == 0);
        WORKS(journal_push(a.j, &r));
        HOLDS(r.first == turn);
      }
    }
  end();
}

static void push_one(uint64_t queue, const char *text, size_t size) {
  respool_bytes p = {text, size};
  journal_push_req r = {.queue = queue, .now = now_ms(), .items = &p,
                        .n = 1};
  WORKS(journal_enter(a.j));
  WORKS(journal_queue(a.j, queue, 1));
  journal_view(a.j, queue, JOURNAL_NEVER);
  journal_leave(a.j);
  WORKS(journal_push(a.j, &r));
}

static void done_one(uint64_t queue) {
  uint8_t o;
  journal_item i;
  int64_t now = now_ms();
  journal_take_req t = {.queue = queue, .bytes = 1, .now = now, .max = 1,
                        .until = now + 60000, .items = &i, .to = &memory};
  HOLDS(journal_take(a.j, &t) == 0 && t.n == 1);
  journal_done_req r = {.queue = queue, .ids = &i.id, .tokens = &i.token,
                        .n = 1, .outcome = &o};
  HOLDS(journal_done(a.j, &r, true) == 0 && r.done == 1);
}

/* A take that flushed between two parts of its lease had another's items in
   its middle; LMDB then had two claims where a settle knows one. Here the other
   takes its items within the flush. */
static int64_t taken_meanwhile;


static void take_meanwhile(void) {
  at_flush = NULL;
  atomic_store(&b.j->c->flushed, atomic_load(&b.j->c->tail));
  taken_meanwhile = (int64_t)take(&b, 1, 60000).id;
}

static void a_lease_is_of_consecutive_items(void) {
  journal_item i[4];
  int64_t now = now_ms();
  journal_take_req t = {.queue = 1, .bytes = UINT64_MAX, .now = now,
                        .until = now + 60000, .items = i, .max = 4,
                        .to = &memory};
  begin();
  WORKS(stand_open(&b, dir, HALF));
  push(&a, 1, "on disk");
  for (int n = 0; n < 3; n++) push_one(1, "not yet", 7);
  at_flush = take_meanwhile;
  HOLDS(journal_take(a.j, &t) == 0 && t.n == 1 && i->id == 1);
  HOLDS(taken_meanwhile == 2);
  HOLDS(journal_take(a.j, &t) == 0 && t.n == 2 && i->id == 3);
  end();
}

/* The next to open believed the record, which was whole; its push had gone to
   LMDB, with the same ids. */
static void a_write_that_failed_leaves_no_record(void) {
  begin();
  push(&a, 1, "a");
  respool_bytes p = {"b", 1};
  journal_push_req r = {.queue = 1, .now = now_ms(), .items = &p, .n = 1};
  cut_short = 1;
  HOLDS(journal_push(a.j, &r) < 0);
  reopen();
  lies(0, 1);
  push(&a, 1, "c");
  reopen();
  lies(0, 2);
  end();
}

/* The lease lay in the memory of the process that repaired. */
static void a_repair_that_is_killed_loses_no_lease(void) {
  begin();
  push(&a, 1, "a");
  push(&a, 1, "b");
  taken t = take(&a, 1, 60000);
  control *c = a.j->c;
  c->kept[0] = (kept){1, t.id, t.token, now_ms() + 60000};
  atomic_store(&c->n_kept, 2);
  slots_clear(c);
  atomic_store(&c->dirty[STATE_LOCK], 1);
  HOLDS(take(&a, 1, 60000).id == 2);
  HOLDS(done(&a, 1, t) == 1);
  end();
}

enum { CROWD = 12000, SOME = 100 };

static void shuffle(uint64_t *ids, uint64_t *tokens, size_t n) {
  unsigned seed = 1;
  for (size_t i = n - 1; i > 0; i--) {
    size_t k = (size_t)rand_r(&seed) % (i + 1);
    uint64_t id = ids[i], token = tokens[i];
    ids[i] = ids[k];
    tokens[i] = tokens[k];
    ids[k] = id;
    tokens[k] = token;
  }
}

static void each_of_very_many_items_is_found(void) {
  static uint64_t ids[CROWD], tokens[CROWD];
  static respool_bytes p[JOURNAL_BATCH];
  static taken t[SOME];
  begin();
  stand_close(&a);
  clear_dir();
  WORKS(stand_open(&a, dir, 0));
  for (int i = 0; i < SOME; i++) p[i] = (respool_bytes){"x", 1};
  for (int n = 0; n < CROWD; n += SOME) {
    uint64_t id;
    WORKS(stand_push(&a, 1, p, SOME, &id));
  }
  for (int n = 0, k; n < CROWD; n += k) {
    k = stand_take(&a, 1, t, SOME, 600000, 0, &memory);
    if (k <= 0) break;
    for (int i = 0; i < k; i++) {
      ids[n + i] = t[i].id;
      tokens[n + i] = t[i].token;
    }
  }
  shuffle(ids, tokens, CROWD);
  uint8_t o[SOME];
  for (int n = 0; n < CROWD; n += SOME) {
    HOLDS(stand_done(&a, 1, ids + n, tokens + n, SOME, o) == SOME);
    if (n % 4000 == 0) HOLDS(stand_check(&a, found_any, NULL) == 0);
  }
  lies(0, 0);
  end();
}

/* A done that lies behind the applied position, of a push before it, needs no
   row when the log is read again: there may be more of them than rows. */
static void dones_of_what_was_applied_need_no_rows(void) {
  static const char text[8000];
  begin();
  for (uint64_t q = 1; q <= JOURNAL_QUEUES; q++) push_one(q, "x", 1);
  while (state().tail < HALF) {
    push_one(1, text, sizeof text / 2);
    done_one(1);
  }
  for (uint64_t q = 1; q <= JOURNAL_QUEUES; q++) done_one(q);
  journal_work *w = NULL;
  WORKS(journal_enter(a.j));
  WORKS(journal_begin(a.j, &(journal_applied){0, 0, 0}, JOURNAL_OLD, &w));
  journal_applied to = journal_position(w);
  WORKS(journal_finish(w, 0));
  journal_leave(a.j);
  uint64_t tail = state().tail;
  HOLDS(to.pos == HALF && tail > HALF);
  for (uint64_t q = 1; q <= 100; q++) push_one(1000 + q, "y", 1);
  stand_close(&a);
  stand s = {.dirfd = open(dir, O_RDONLY | O_DIRECTORY)};
  journal_state now;
  WORKS(journal_open(s.dirfd, &(journal_options){.half = HALF}, &s.j));
  WORKS(journal_start(s.j, (const uint8_t *)"a stand-in store", &to));
  WORKS(journal_now(s.j, &now));
  HOLDS(now.live >= 100 && now.tail > tail);
  stand_close(&s);
  end();
}

int main(void) {
  kit_open();
  CHECK(an_item_is_pushed_taken_and_done());
  CHECK(a_queue_has_ids_of_its_own());
  CHECK(a_token_that_is_not_current_changes_nothing());
  CHECK(an_id_that_comes_twice_is_done_once());
  CHECK(a_strict_done_is_all_or_none());
  CHECK(a_lease_that_ran_out_is_blamed_in_lmdb());
  CHECK(a_retry_goes_on_in_lmdb());
  CHECK(the_highest_priority_goes_first());
  CHECK(what_has_expired_is_lmdbs());
  CHECK(nothing_is_handed_out_before_it_is_flushed());
  CHECK(a_lease_is_of_consecutive_items());
  CHECK(a_repair_that_is_killed_loses_no_lease());
  CHECK(a_write_that_failed_leaves_no_record());
  CHECK(what_is_too_large_or_too_many_goes_to_lmdb());
  CHECK(more_queues_than_rows());
  CHECK(each_of_very_many_items_is_found());
  CHECK(dones_of_what_was_applied_need_no_rows());
  return kit_close();
}

/* SPDX-License-Identifier: MIT */
/*
 * The journal applied to LMDB: its halves are used again, and what lives long
 * leaves.
 */
#include "kit.h"

static void a_half_is_used_again_and_again(void) {
  begin();
  lifecycles(3000, 100);
  HOLDS(state().tail > 6 * HALF);
  HOLDS(state().freed + 2 * HALF > state().tail);
  count(1, 3000, 3000);
  lies(0, 0);
  reopen();
  count(1, 3000, 3000);
  HOLDS(push(&a, 1, "next") == 3001);
  end();
}

static void what_lives_long_goes_to_lmdb(void) {
  begin();
  push(&a, 1, "long");
  taken t = take(&a, 1, 60000);
  lifecycles(1500, 100);
  lies(1, 0);
  HOLDS(done(&a, 1, t) == 1);
  count(1, 1501, 1501);
  end();
}

static void a_full_journal_still_takes_and_settles(void) {
  begin();
  push(&a, 1, "row");
  taken t = take(&a, 1, 60000);
  HOLDS(done(&a, 1, t) == 1);
  static char text[900];
  respool_bytes p = {text, sizeof text};
  journal_push_req r = {.queue = 1, .now = now_ms(), .items = &p, .n = 1};
  int n = 0;
  while (journal_push(a.j, &r) == 0) n++;
  WORKS(journal_flush(a.j, r.end));
  HOLDS(n > 60);
  WORKS(stand_open(&b, dir, HALF));
  for (int i = 0; i < n; i++) {
    uint8_t o;
    t = take(&b, 1, 60000);
    journal_done_req d = {.queue = 1, .ids = &t.id, .tokens = &t.token,
                          .n = 1, .outcome = &o};
    HOLDS(journal_done(b.j, &d, false) == 0 && d.done == 1);
    WORKS(journal_flush(b.j, d.end));
  }
  HOLDS(push(&b, 1, "goes on") > 0);
  end();
}

static void counters_go_by_the_position_of_the_push(void) {
  begin();
  push(&a, 1, "long");
  taken t = take(&a, 1, 60000);
  for (int i = 0; i < 4; i++) {
    lifecycles(150, 200);
    WORKS(stand_apply(&a, i % 2 ? JOURNAL_ALL : JOURNAL_OLD, i % 3 == 0));
    count(1, 1 + 150 * (uint64_t)(i + 1), 150 * (uint64_t)(i + 1));
    if (i == 1) reopen();
  }
  HOLDS(done(&a, 1, t) == 1);
  reopen();
  count(1, 601, 601);
  end();
}

static void only_what_was_applied_can_be_renewed(void) {
  begin();
  push(&a, 1, "x");
  WORKS(journal_enter(a.j));
  HOLDS(journal_renew(a.j) == RESPOOL_BUSY);
  journal_leave(a.j);
  end();
}

/* Not before its pushes are applied: without its row their ids would be given
   again, and a power cut that loses the DONE would leave items of no queue. */
static void a_queue_is_forgotten_when_its_pushes_are_applied(void) {
  begin();
  push(&a, 1, "x");
  WORKS(journal_enter(a.j));
  HOLDS(journal_queue_forget(a.j, 1) == RESPOOL_BUSY);
  WORKS(journal_queue_forget(a.j, 77));
  journal_leave(a.j);
  HOLDS(done(&a, 1, take(&a, 1, 60000)) == 1);
  WORKS(journal_enter(a.j));
  HOLDS(journal_queue_forget(a.j, 1) == RESPOOL_BUSY);
  journal_leave(a.j);
  WORKS(stand_apply(&a, JOURNAL_ALL, true));
  WORKS(journal_enter(a.j));
  WORKS(journal_queue_forget(a.j, 1));
  HOLDS(journal_ids(a.j, 1, 3, 1) == 3);
  WORKS(journal_queue(a.j, 1, 5));
  HOLDS(journal_ids(a.j, 1, 1, 3) == 5);
  journal_leave(a.j);
  HOLDS(push(&a, 1, "y") == 8);
  end();
}

static journal_work *begin_work(journal_applied applied) {
  journal_work *w = NULL;
  WORKS(journal_enter(a.j));
  WORKS(journal_begin(a.j, &applied, JOURNAL_ALL, &w));
  return w;
}

static void end_work(journal_work *w, int rc) {
  WORKS(journal_finish(w, rc));
  journal_leave(a.j);
}

static void what_is_about_to_leave_is_nobodys(void) {
  begin();
  push(&a, 1, "x");
  push(&a, 1, "y");
  taken x = take(&a, 1, 60000);
  journal_work *w = begin_work((journal_applied){0, 0, 0});
  journal_item i;
  int64_t now = now_ms();
  journal_take_req t = {.queue = 1, .bytes = 100, .now = now, .max = 1,
                        .until = now + 60000, .items = &i, .to = &memory};
  HOLDS(journal_take(a.j, &t) == JOURNAL_ELSEWHERE);
  uint8_t o;
  journal_done_req r = {.queue = 1, .ids = &x.id, .tokens = &x.token, .n = 1,
                        .outcome = &o};
  HOLDS(journal_done(a.j, &r, false) == 0 && o == JOURNAL_IN_LMDB);
  end_work(w, RESPOOL_IO); /* the commit failed: they are here again */
  HOLDS(journal_take(a.j, &t) == 0 && t.n == 1 && i.id == 2);
  HOLDS(done(&a, 1, x) == 1);
  end();
}

static void an_unfinished_application_is_found_out(void) {
  begin();
  push(&a, 1, "x");
  journal_work *w = begin_work((journal_applied){0, 0, 0});
  journal_applied to = journal_position(w);
  end_work(w, RESPOOL_UNKNOWN_OUTCOME); /* as if it had died */
  w = begin_work((journal_applied){0, 0, 0}); /* it did not commit */
  HOLDS(w && journal_position(w).pos == to.pos);
  end_work(w, RESPOOL_UNKNOWN_OUTCOME);
  w = begin_work(to); /* it did */
  HOLDS(w == NULL && state().live == 0 && state().applied == to.pos);
  HOLDS(state().freed < to.pos);
  journal_leave(a.j);
  HOLDS(journal_freed(a.j, to.pos + 8) == 0 && state().freed < to.pos);
  WORKS(journal_freed(a.j, to.pos));
  HOLDS(state().freed == to.pos);
  stand_close(&a); /* the side knows nothing of it */
  end();
}

int main(void) {
  kit_open();
  CHECK(a_half_is_used_again_and_again());
  CHECK(what_lives_long_goes_to_lmdb());
  CHECK(a_full_journal_still_takes_and_settles());
  CHECK(counters_go_by_the_position_of_the_push());
  CHECK(only_what_was_applied_can_be_renewed());
  CHECK(a_queue_is_forgotten_when_its_pushes_are_applied());
  CHECK(what_is_about_to_leave_is_nobodys());
  CHECK(an_unfinished_application_is_found_out());
  return kit_close();
}

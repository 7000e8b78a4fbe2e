/* SPDX-License-Identifier: MIT */
/*
 * Calls that fail below the journal, and payloads that are damaged.
 */
#include "kit.h"

static void a_flush_that_failed_is_not_believed_again(void) {
  begin();
  push(&a, 1, "before");
  WORKS(stand_open(&b, dir, HALF));
  respool_bytes p = {"x", 1};
  uint64_t id;
  no_flush = 1;
  HOLDS(stand_push(&a, 1, &p, 1, &id) == RESPOOL_UNKNOWN_OUTCOME);
  HOLDS(stand_push(&b, 1, &p, 1, &id) == RESPOOL_IO);
  taken t;
  HOLDS(stand_take(&b, 1, &t, 1, 1000, 0, &memory) == RESPOOL_IO);
  HOLDS(state().failed);
  WORKS(stand_mend(&b));
  HOLDS(!state().failed);
  HOLDS(push(&a, 1, "after") == 3);
  HOLDS(push(&b, 1, "after") == 4);
  lies(2, 2);
  reopen();
  lies(2, 2);
  HOLDS(says(take(&a, 1, 60000), "before"));
  HOLDS(says(take(&a, 1, 60000), "x"));
  HOLDS(says(take(&a, 1, 60000), "after"));
  end();
}

/* Its flush may have failed, which nobody else would hear of. */
static void what_a_dead_flusher_had_to_flush_is_written_again(void) {
  begin();
  push(&a, 1, "x");
  respool_bytes p = {"y", 1};
  journal_push_req r = {.queue = 1, .now = now_ms(), .items = &p, .n = 1};
  WORKS(journal_push(a.j, &r));
  bool died;
  HOLDS(lock_try(a.j, FLUSH_LOCK, &died) && !died);
  lock_abandon(a.j, FLUSH_LOCK);
  writes = 0;
  WORKS(journal_flush(a.j, r.end));
  HOLDS(writes == 1);
  push(&a, 1, "z");
  HOLDS(writes == 2);
  end();
}

static void a_record_that_cannot_be_written_was_not_pushed(void) {
  begin();
  push(&a, 1, "x");
  respool_bytes p = {"y", 1};
  uint64_t id;
  no_space = 1;
  HOLDS(stand_push(&a, 1, &p, 1, &id) == RESPOOL_NOSPACE);
  HOLDS(push(&a, 1, "z") == 3);
  lies(0, 2);
  end();
}

static void without_room_for_a_file_all_goes_to_lmdb(void) {
  begin();
  no_space = -1;
  HOLDS(push(&a, 1, "x") == 1);
  HOLDS(push(&a, 1, "y") == 2);
  lies(2, 0);
  HOLDS(done(&a, 1, take(&a, 1, 60000)) == 1);
  no_space = 0;
  HOLDS(faccessat(a.dirfd, "journal.new", F_OK, 0) != 0);
  HOLDS(push(&a, 1, "z") == 3);
  lies(2, 0);
  WORKS(journal_enter(a.j));
  WORKS(journal_renew(a.j)); /* there is room again */
  journal_leave(a.j);
  HOLDS(push(&a, 1, "here") == 4);
  lies(2, 1);
  end();
}

static void a_later_open_tries_again_to_make_a_file(void) {
  begin();
  no_space = -1;
  HOLDS(push(&a, 1, "x") == 1);
  no_space = 0;
  reopen();
  HOLDS(push(&a, 1, "y") == 2);
  lies(1, 1);
  end();
}

static void a_damaged_payload_is_not_handed_out(void) {
  begin();
  push(&a, 1, "good");
  uint64_t tail = state().tail;
  push(&a, 1, "bad!");
  poke("journal", (off_t)(PAGE + tail + 72), "B", 1);
  HOLDS(says(take(&a, 1, 60000), "good"));
  journal_item i;
  int64_t now = now_ms();
  journal_take_req t = {.queue = 1, .bytes = 100, .now = now, .max = 1,
                        .until = now + 1000, .items = &i, .to = &memory};
  HOLDS(journal_take(a.j, &t) == JOURNAL_ELSEWHERE);
  int n = 0;
  HOLDS(stand_check(&a, found_any, &n) == 0 && n > 0);
  journal_work *w;
  WORKS(journal_enter(a.j));
  WORKS(journal_begin(a.j, &(journal_applied){0, 0, 0}, JOURNAL_ALL, &w));
  HOLDS(journal_next(w, &i, &memory) == 1 && !i.damaged && i.token);
  HOLDS(journal_next(w, &i, &memory) == 1 && i.damaged && !i.token);
  HOLDS(i.packed.size == 4 && !memcmp(i.packed.data, "Bad!", 4));
  HOLDS(journal_next(w, &i, &memory) == 0);
  WORKS(journal_finish(w, RESPOOL_IO));
  journal_leave(a.j);
  poke("journal", (off_t)(PAGE + tail + 72), "b", 1);
  end();
}

int main(void) {
  kit_open();
  CHECK(a_flush_that_failed_is_not_believed_again());
  CHECK(what_a_dead_flusher_had_to_flush_is_written_again());
  CHECK(a_record_that_cannot_be_written_was_not_pushed());
  CHECK(without_room_for_a_file_all_goes_to_lmdb());
  CHECK(a_later_open_tries_again_to_make_a_file());
  CHECK(a_damaged_payload_is_not_handed_out());
  return kit_close();
}

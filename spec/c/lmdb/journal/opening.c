/* SPDX-License-Identifier: MIT */
/*
 * A journal that is opened: what it believes of its files, and what it refuses.
 */
#include "kit.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/wait.h>
#include <xxhash.h>

static void reboot(void) {
  stand_close(&a);
  stand_close(&b);
  poke("control", offsetof(control, boot), "another boot", 13);
  WORKS(stand_open(&a, dir, HALF));
}

static void leases_are_kept_unless_the_machine_was_booted(void) {
  begin();
  push(&a, 1, "x");
  push(&a, 1, "y");
  taken t = take(&a, 1, 60000);
  reopen();
  HOLDS(take(&a, 1, 60000).id == 2);
  HOLDS(done(&a, 1, t) == 1);
  reboot();
  taken again = take(&a, 1, 60000);
  HOLDS(again.id == 2 && again.crashes == 0);
  HOLDS(again.token > t.token);
  end();
}

static void what_is_torn_at_the_tail_was_never_told(void) {
  begin();
  push(&a, 1, "whole");
  uint64_t tail = state().tail;
  push(&a, 1, "torn");
  poke("journal", (off_t)(PAGE + tail + 70), "T", 1);
  reboot();
  HOLDS(state().tail == tail);
  HOLDS(push(&a, 1, "again") == 2);
  lies(0, 2);
  end();
}

/* The kernel may call a page clean that never got to the disk. */
static void what_is_found_is_written_again_before_it_is_believed(void) {
  begin();
  push(&a, 1, "x");
  stand_close(&a);
  writes = flushes = 0;
  no_flush = 1;
  HOLDS(stand_open(&b, dir, HALF) == RESPOOL_IO);
  b = (stand){.dirfd = -1};
  WORKS(stand_open(&a, dir, HALF));
  HOLDS(writes == 2 && flushes == 2);
  stand_close(&a);
  WORKS(stand_open(&a, dir, HALF));
  WORKS(stand_apply(&a, JOURNAL_ALL, true));
  stand_close(&a);
  flushes = 0;
  WORKS(stand_open(&a, dir, HALF)); /* nothing is found */
  HOLDS(flushes == 0);
  end();
}

/* One that is whole by itself, but follows on another record. */
static void a_record_counts_only_in_its_chain(void) {
  begin();
  push(&a, 1, "first");
  uint64_t pos = state().tail;
  push(&a, 1, "second");
  static uint64_t half[HALF / 8];
  HOLDS(pread(a.j->fd, half, HALF, log_place(HALF, 0)) == (ssize_t)HALF);
  record *r = (void *)&half[pos / 8];
  r->prev++;
  r->sum = XXH3_64bits_withSeed(&r->prev, r->len - 8, r->prev);
  poke("journal", log_place(HALF, pos), r, r->len);
  HOLDS(record_at((uint8_t *)half, HALF, pos) == r);
  reboot();
  lies(0, 1);
  HOLDS(state().tail == pos);
  end();
}

/* A record that nobody was told of lies whole at the tail, and the log goes
   on in the other half: END must hide it. */
static void end_hides_what_a_dead_writer_left(void) {
  static char text[8000];
  begin();
  push(&a, 1, "row");
  respool_bytes p = {text, 7000};
  journal_push_req r = {.queue = 1, .now = now_ms(), .items = &p, .n = 1};
  while (state().tail + 8000 + 500 < HALF) WORKS(journal_push(a.j, &r));
  uint64_t tail = state().tail;
  respool_bytes small = {text, 1};
  journal_push_req dead = {.queue = 1, .now = now_ms(), .items = &small,
                           .n = 1};
  WORKS(journal_push(a.j, &dead));
  atomic_store(&a.j->c->tail, tail); /* as if it had died before */
  atomic_store(&a.j->c->dirty[STATE_LOCK], 1);
  p.size = 7900;
  WORKS(journal_push(a.j, &r)); /* repairs, and goes to the other half */
  HOLDS(state().tail > HALF);
  WORKS(journal_flush(a.j, r.end));
  uint64_t live = state().live;
  reopen();
  HOLDS(state().live == live && state().tail == r.end);
  end();
}

static void a_block_is_repaired_when_its_holder_died(void) {
  begin();
  push(&a, 1, "x");
  push(&a, 1, "y");
  taken t = take(&a, 1, 60000);
  pid_t pid = fork();
  if (!pid) {
    stand s;
    if (stand_open(&s, dir, HALF) || lock_take(s.j, STATE_LOCK, &(bool){false}))
      _exit(1);
    memset(s.j->c->index, 0xee, sizeof s.j->c->index);
    s.j->c->row[0].first = 4711;
    s.j->c->live = 9;
    _exit(0);
  }
  int status;
  HOLDS(waitpid(pid, &status, 0) == pid && status == 0);
  HOLDS(take(&a, 1, 60000).id == 2);
  HOLDS(done(&a, 1, t) == 1);
  HOLDS(state().repairs == 1);
  lies(0, 1);
  end();
}

static void refused(int code, const char *text) {
  HOLDS(stand_open(&b, dir, HALF) == code);
  HOLDS(strstr(respool_error_text(), text) != NULL);
  b = (stand){.dirfd = -1};
}

static void another_layout_or_namespace_is_refused_while_open(void) {
  begin();
  uint32_t layout = a.j->c->layout;
  a.j->c->layout = 99;
  refused(RESPOOL_VERSION, "another version");
  a.j->c->layout = layout;
  uint64_t ns = a.j->c->pidns;
  a.j->c->pidns++;
  refused(RESPOOL_LOCKED, "container");
  a.j->c->pidns = ns;
  WORKS(stand_open(&b, dir, HALF));
  end();
}

static void damage(const char *file, off_t at, const void *p, size_t n,
                   int code, const char *text) {
  copy(file, "old");
  poke(file, at, p, n);
  refused(code, text);
  copy("old", file);
}

/* A real one, where we may make it. */
static void another_container_is_refused(void) {
  begin();
  fflush(stdout);
  pid_t pid = fork();
  if (!pid) {
    if (unshare(CLONE_NEWPID)) _exit(0);
    pid_t inner = fork();
    if (!inner) {
      stand s;
      _exit(stand_open(&s, dir, HALF) != RESPOOL_LOCKED);
    }
    int status;
    _exit(waitpid(inner, &status, 0) != inner || status != 0);
  }
  int status;
  HOLDS(waitpid(pid, &status, 0) == pid && status == 0);
  end();
}

static void a_file_that_is_not_ours_is_refused(void) {
  begin();
  push(&a, 1, "x");
  stand_close(&a);
  uint32_t layout = 7;
  damage("journal", 8, &layout, 4, RESPOOL_VERSION, "layout 7");
  damage("journal", 0, "other", 5, RESPOOL_CORRUPT, "no head");
  damage("journal", 30, "x", 1, RESPOOL_CORRUPT, "damaged");
  copy("journal", "old");
  char path[4200];
  snprintf(path, sizeof path, "%s/journal", dir);
  HOLDS(truncate(path, 100000) == 0);
  refused(RESPOOL_CORRUPT, "damaged");
  copy("old", "journal");
  stand s = {.dirfd = open(dir, O_RDONLY | O_DIRECTORY)};
  journal_options o = {.half = HALF};
  WORKS(journal_open(s.dirfd, &o, &s.j));
  HOLDS(journal_start(s.j, (const uint8_t *)"of another store",
                      &(journal_applied){0, 0, 0}) == RESPOOL_CORRUPT);
  stand_close(&s);
  WORKS(stand_open(&a, dir, HALF));
  lies(0, 1);
  end();
}

static void a_data_file_that_is_older_is_refused(void) {
  begin();
  lifecycles(500, 100);
  copy("applied", "old");
  lifecycles(1000, 100);
  stand_close(&a);
  copy("old", "applied");
  refused(RESPOOL_CORRUPT, "older than the journal");
  end();
}

static void a_journal_of_another_time_is_refused(void) {
  begin();
  push(&a, 1, "x");
  stand_close(&a);
  copy("journal", "old");
  char path[4200];
  snprintf(path, sizeof path, "%s/journal", dir);
  unlink(path);
  WORKS(stand_open(&a, dir, HALF));
  push(&a, 1, "y");
  WORKS(stand_apply(&a, JOURNAL_ALL, true));
  stand_close(&a);
  copy("old", "journal");
  refused(RESPOOL_CORRUPT, "not the one");
  unlink(path); /* without one, a new one begins */
  WORKS(stand_open(&a, dir, HALF));
  HOLDS(push(&a, 1, "z") == 2);
  HOLDS(state().applied >= HALF);
  reopen();
  lies(1, 1);
  end();
}

int main(void) {
  kit_open();
  CHECK(leases_are_kept_unless_the_machine_was_booted());
  CHECK(what_is_torn_at_the_tail_was_never_told());
  CHECK(what_is_found_is_written_again_before_it_is_believed());
  CHECK(a_record_counts_only_in_its_chain());
  CHECK(end_hides_what_a_dead_writer_left());
  CHECK(a_block_is_repaired_when_its_holder_died());
  CHECK(another_layout_or_namespace_is_refused_while_open());
  CHECK(another_container_is_refused());
  CHECK(a_file_that_is_not_ours_is_refused());
  CHECK(a_data_file_that_is_older_is_refused());
  CHECK(a_journal_of_another_time_is_refused());
  return kit_close();
}

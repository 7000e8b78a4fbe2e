/* SPDX-License-Identifier: MIT */
/*
 * The journal beside a file that stands in for LMDB (spec/fault/journal/stand_in.h).
 * Every handle here is as another process: it has descriptors, locks and a
 * mapping of its own. Calls that fail are made to by this program's own
 * pwrite and fdatasync.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <xxhash.h>

#include "../../fault/journal/stand_in.h"
#include "../holds.h"
#include "lmdb/journal/files/lock.h"
#include "lmdb/journal/files/slots.h"

#define HALF ((uint64_t)64 << 10)

static atomic_int no_space, no_flush; /* errors to come; -1: for ever */
static atomic_int cut_short; /* writes to come that are done and deny it */
static atomic_int writes, flushes;

static bool comes(atomic_int *n) {
  if (*n > 0) return atomic_fetch_sub(n, 1) > 0;
  return *n < 0;
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t at) {
  writes++;
  if (comes(&cut_short)) {
    (void)syscall(SYS_pwrite64, fd, p, n, at);
    return (ssize_t)n / 2;
  }
  if (!comes(&no_space)) return syscall(SYS_pwrite64, fd, p, n, at);
  errno = ENOSPC;
  return -1;
}

static void take_meanwhile(void);

int fdatasync(int fd) {
  flushes++;
  take_meanwhile();
  if (!comes(&no_flush)) return (int)syscall(SYS_fdatasync, fd);
  errno = EIO;
  return -1;
}

/* ---- a store for each check ---------------------------------------------- */

static const char *dir;
static stand a, b; /* b: another process's */
static arena memory;

static void clear_dir(void) {
  static const char *const files[] = {"journal", "control", "applied",
                                      "journal.new", "applied.new", "old"};
  char path[4200];
  for (int i = 0; i < 6; i++) {
    snprintf(path, sizeof path, "%s/%s", dir, files[i]);
    unlink(path);
  }
}

static void begin(void) {
  clear_dir();
  arena_init(&memory);
  WORKS(stand_open(&a, dir, HALF));
  b = (stand){.dirfd = -1};
}

static int found_any(void *arg, const char *text) {
  if (!arg) printf("  check: %s\n", text);
  return ++*(arg ? (int *)arg : &(int){0}), arg ? 0 : 1;
}

static void end(void) {
  if (a.j) HOLDS(stand_check(&a, found_any, NULL) == 0);
  stand_close(&a);
  stand_close(&b);
  arena_free(&memory);
}

static void reopen(void) {
  stand_close(&a);
  stand_close(&b);
  WORKS(stand_open(&a, dir, HALF));
}

static uint64_t push(stand *s, uint64_t queue, const char *text) {
  uint64_t id = 0;
  respool_bytes p = {text, strlen(text)};
  WORKS(stand_push(s, queue, &p, 1, &id));
  return id;
}

static taken take(stand *s, uint64_t queue, int64_t lease) {
  taken t = {.id = 0};
  HOLDS(stand_take(s, queue, &t, 1, lease, 0, &memory) >= 0);
  return t;
}

static int done(stand *s, uint64_t queue, taken t) {
  uint8_t o;
  return stand_done(s, queue, &t.id, &t.token, 1, &o);
}

static bool says(taken t, const char *text) {
  return t.bytes.size == strlen(text) &&
         !memcmp(t.bytes.data, text, t.bytes.size);
}

static void count(uint64_t queue, uint64_t pushed, uint64_t n_done) {
  uint64_t p = 0, d = 0;
  WORKS(stand_count(&a, queue, &p, &d));
  HOLDS(p == pushed);
  HOLDS(d == n_done);
}

static int count_each(void *arg, const side_item *i, int where) {
  int *n = arg;
  (void)i;
  n[where]++;
  return 0;
}

/* Live items: in the side, in the journal. */
static void lies(int in_side, int in_journal) {
  int n[2] = {0, 0};
  WORKS(stand_each(&a, count_each, n));
  HOLDS(n[0] == in_side);
  HOLDS(n[1] == in_journal);
}

static journal_state state(void) {
  journal_state s;
  WORKS(journal_now(a.j, &s));
  return s;
}

static void poke(const char *file, off_t at, const void *p, size_t n) {
  char path[4200];
  snprintf(path, sizeof path, "%s/%s", dir, file);
  int fd = open(path, O_RDWR);
  HOLDS(syscall(SYS_pwrite64, fd, p, n, at) == (ssize_t)n);
  close(fd);
}

static void copy(const char *from, const char *to) {
  char x[4200], y[4200];
  static uint8_t bytes[1 << 20];
  snprintf(x, sizeof x, "%s/%s", dir, from);
  snprintf(y, sizeof y, "%s/%s", dir, to);
  int in = open(x, O_RDONLY), out = open(y, O_RDWR | O_CREAT | O_TRUNC, 0600);
  ssize_t n;
  while ((n = read(in, bytes, sizeof bytes)) > 0)
    HOLDS(write(out, bytes, (size_t)n) == n);
  close(in);
  close(out);
}

/* ---- life of an item ----------------------------------------------------- */

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
static bool takes_meanwhile;

static void take_meanwhile(void) {
  if (!takes_meanwhile) return;
  takes_meanwhile = false;
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
  takes_meanwhile = true;
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

/* ---- halves -------------------------------------------------------------- */

static void lifecycles(int n, size_t size) {
  static char text[8000];
  memset(text, 'p', sizeof text);
  for (int i = 0; i < n; i++) {
    respool_bytes p = {text, size};
    uint64_t id;
    WORKS(stand_push(&a, 1, &p, 1, &id));
    taken t = take(&a, 1, 60000);
    if (t.id != id || done(&a, 1, t) != 1) {
      HOLDS(t.id == id);
      return;
    }
  }
}

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

/* ---- opening ------------------------------------------------------------- */

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

/* ---- calls that fail ----------------------------------------------------- */

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

static void a_look_goes_from_an_id_on(void) {
  begin();
  journal_seen seen[3];
  size_t n;
  for (int i = 0; i < 5; i++) push(&a, 1, i == 3 ? "fourth" : "x");
  take(&a, 1, 60000);
  HOLDS(!journal_look(a.j, 1, 0, seen, 3, &n, NULL) && n == 3);
  HOLDS(seen[0].item.id == 1 && seen[0].item.token && seen[0].item.until);
  HOLDS(seen[1].item.id == 2 && !seen[1].item.token);
  HOLDS(!journal_look(a.j, 1, 4, seen, 3, &n, &memory) && n == 2);
  HOLDS(seen[0].item.packed.size == 6 && seen[0].pos < seen[1].pos);
  HOLDS(!journal_look(a.j, 2, 0, seen, 3, &n, &memory) && n == 0);
  journal_counts c;
  WORKS(journal_count(a.j, 1, now_ms(), &c));
  HOLDS(c.ready == 4 && c.leased == 1 && c.bytes == 10 && c.delivered == 1);
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

/* ---- check, salvage, looking --------------------------------------------- */

static void check_finds_what_is_wrong(void) {
  begin();
  push(&a, 1, "x");
  push(&a, 1, "y");
  control *c = a.j->c;
#define FINDS(change, back) \
  do { \
    int n = 0; \
    change; \
    HOLDS(stand_check(&a, found_any, &n) == 0); \
    HOLDS(n > 0); \
    back; \
  } while (0)
  uint64_t tail = c->tail;
  FINDS(c->flushed = tail + 8, c->flushed = tail);
  FINDS(c->freed = tail + 8, c->freed = 0);
  FINDS(c->row[0].ready = 1, c->row[0].ready = 2);
  FINDS(c->row[0].fresh.pushed++, c->row[0].fresh.pushed--);
  FINDS(c->row[0].next_id = 2, c->row[0].next_id = 3);
  FINDS(c->slot[1].at++, c->slot[1].at--);
  FINDS(c->live++, c->live--);
  FINDS(c->chain++, c->chain--);
  FINDS(c->applied[c->which & 1].pos += 8, c->applied[c->which & 1].pos -= 8);
  FINDS(poke("journal", PAGE + 64, "??", 2),
        poke("journal", PAGE + 64, "\1\0", 2));
  taken t = take(&a, 1, 60000);
  HOLDS(t.id == 1);
  FINDS(c->flushed = 0, c->flushed = tail);
  end();
}

typedef struct tally_of {
  int pushes, dones, rising, damaged;
  uint64_t last;
} tally_of;

static int tally_record(void *arg, const journal_record *r) {
  tally_of *t = arg;
  t->pushes += !r->done;
  t->dones += r->done;
  t->damaged += !r->done && r->item->damaged;
  t->rising += r->pos >= t->last;
  t->last = r->pos;
  return 0;
}

static void salvage_reads_what_can_be_read(void) {
  begin();
  push(&a, 1, "one");
  uint64_t second = state().tail;
  push(&a, 1, "two");
  push(&a, 1, "three");
  HOLDS(done(&a, 1, take(&a, 1, 60000)) == 1);
  tally_of t = {0, 0, 0, 0, 0};
  WORKS(journal_salvage(a.dirfd, tally_record, &t));
  HOLDS(t.pushes == 3 && t.dones == 1 && t.rising == 4 && !t.damaged);
  poke("journal", (off_t)(PAGE + second + 8), "broken", 6);
  t = (tally_of){0, 0, 0, 0, 0};
  WORKS(journal_salvage(a.dirfd, tally_record, &t));
  HOLDS(t.pushes == 2 && t.dones == 1);
  stand_close(&a);
  end();
}

static int tally_item(void *arg, const journal_item *i) {
  uint64_t *sum = arg;
  HOLDS(i->packed.size == 1);
  if (i->token) return 0;
  *sum += i->id;
  return 0;
}

static int find_leased(void *arg, const journal_item *i) {
  if (i->token) *(uint64_t *)arg = i->token;
  return 0;
}

static void a_look_waits_for_nobody(void) {
  begin();
  static const uint8_t id[16] = "a stand-in store";
  journal_applied at = {0, 0, 0};
  journal_counts c;
  journal_seen seen[3];
  uint64_t sum = 0;
  size_t n;
  bool died;
  for (int i = 0; i < 3; i++) push(&a, 1, "x");
  WORKS(push(&a, 1, "y") != 4);
  take(&a, 1, 60000);
  WORKS(lock_take(a.j, STATE_LOCK, &died));
  HOLDS(journal_count(a.j, 1, now_ms(), &c) == JOURNAL_ELSEWHERE);
  HOLDS(journal_look(a.j, 1, 0, seen, 3, &n, NULL) == JOURNAL_ELSEWHERE);
  journal_state now;
  HOLDS(journal_glance(a.j, &now) == JOURNAL_ELSEWHERE);
  WORKS(journal_check(a.j, &at, no_finding, NULL));
  WORKS(journal_read(a.dirfd, id, &at, a.j, tally_item, &sum));
  HOLDS(sum == 2 + 3 + 4);
  lock_leave(a.j, STATE_LOCK);
  end();
}

static void a_reader_needs_no_block(void) {
  begin();
  uint64_t sum = 0;
  static const uint8_t id[16] = "a stand-in store";
  journal_applied at = {0, 0, 0};
  WORKS(journal_read(a.dirfd, id, &at, NULL, tally_item, &sum));
  HOLDS(sum == 0);
  for (int i = 0; i < 4; i++) push(&a, 1, "x");
  HOLDS(done(&a, 1, take(&a, 1, 60000)) == 1);
  WORKS(journal_read(a.dirfd, id, &at, NULL, tally_item, &sum));
  HOLDS(sum == 2 + 3 + 4);
  uint64_t token = take(&a, 1, 60000).token, leased = 0;
  WORKS(journal_read(a.dirfd, id, &at, NULL, find_leased, &leased));
  HOLDS(token && leased == token);
  HOLDS(journal_read(a.dirfd, (const uint8_t *)"of another store", &at,
                     NULL, tally_item, &sum) == RESPOOL_CORRUPT);
  end();
}

/* ---- several at a time --------------------------------------------------- */

static void a_child_of_fork_lets_go(void) {
  begin();
  push(&a, 1, "x");
  pid_t pid = fork();
  if (!pid) {
    taken t;
    respool_bytes p = {"y", 1};
    uint64_t id;
    bool forked = stand_push(&a, 1, &p, 1, &id) == RESPOOL_FORKED &&
                  stand_take(&a, 1, &t, 1, 1, 0, &memory) == RESPOOL_FORKED &&
                  a.j->c == NULL && a.j->cfd < 0;
    journal_close(a.j);
    _exit(!forked);
  }
  int status;
  HOLDS(waitpid(pid, &status, 0) == pid && status == 0);
  HOLDS(push(&a, 1, "y") == 2);
  lies(0, 2);
  end();
}

/* A child that lives on holds no lock of its parent that died. */
static void a_lock_dies_with_its_process(void) {
  begin();
  push(&a, 1, "x");
  int ready[2], go[2];
  HOLDS(pipe(ready) == 0 && pipe(go) == 0);
  pid_t pid = fork();
  if (!pid) {
    stand s;
    char c;
    if (stand_open(&s, dir, HALF) || lock_take(s.j, STATE_LOCK, &(bool){false}))
      _exit(1);
    if (!fork()) { /* outlives it */
      close(go[1]);
      (void)!write(ready[1], "r", 1);
      (void)!read(go[0], &c, 1);
      _exit(0);
    }
    (void)!read(go[0], &c, 0);
    usleep(20000);
    _exit(0);
  }
  char c;
  HOLDS(read(ready[0], &c, 1) == 1);
  HOLDS(waitpid(pid, NULL, 0) == pid);
  HOLDS(push(&a, 1, "y") == 2);
  HOLDS(state().repairs == 1);
  close(go[1]);
  close(go[0]);
  close(ready[0]);
  close(ready[1]);
  end();
}

static void *push_later(void *arg) {
  (void)arg;
  usleep(30000);
  push(&b, 1, "woken");
  return NULL;
}

static void a_push_wakes_a_taker_of_another_process(void) {
  begin();
  push(&a, 1, "row");
  HOLDS(done(&a, 1, take(&a, 1, 60000)) == 1);
  HOLDS(take(&a, 1, 60000).id == 0); /* the view of LMDB is known */
  WORKS(stand_open(&b, dir, HALF));
  pthread_t t;
  pthread_create(&t, NULL, push_later, NULL);
  taken x = {.id = 0};
  HOLDS(stand_take(&a, 1, &x, 1, 60000, 600000, &memory) == 1);
  HOLDS(says(x, "woken"));
  pthread_join(t, NULL);
  end();
}

enum { THREADS = 6, TURNS = 300 };
static atomic_int finished;

static void *lives(void *arg) {
  stand *s = arg;
  arena mine;
  for (int i = 0; i < TURNS; i++) {
    respool_bytes p = {"thread", 6};
    uint64_t id, queue = 1 + (uint64_t)i % 2;
    taken t[3];
    arena_init(&mine);
    WORKS(stand_push(s, queue, &p, 1, &id));
    int n = stand_take(s, queue, t, 3, 60000, 0, &mine);
    HOLDS(n >= 0);
    for (int k = 0; k < n; k++) finished += done(s, queue, t[k]);
    if (i % 100 == 99) WORKS(stand_apply(s, JOURNAL_ALL, i % 200 == 99));
    arena_free(&mine);
  }
  return NULL;
}

static void many_threads_of_two_processes(void) {
  begin();
  WORKS(stand_open(&b, dir, HALF));
  pthread_t t[THREADS];
  for (int i = 0; i < THREADS; i++)
    pthread_create(&t[i], NULL, lives, i % 2 ? &a : &b);
  for (int i = 0; i < THREADS; i++) pthread_join(t[i], NULL);
  int left = 0;
  for (uint64_t q = 1; q <= 2; q++)
    for (taken x; (x = take(&a, q, 60000)).id; left++)
      HOLDS(done(&a, q, x) == 1);
  HOLDS(finished + left == THREADS * TURNS);
  count(1, THREADS * TURNS / 2, THREADS * TURNS / 2);
  end();
}

int main(void) {
  dir = fresh_dir();
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
  CHECK(a_half_is_used_again_and_again());
  CHECK(what_lives_long_goes_to_lmdb());
  CHECK(a_full_journal_still_takes_and_settles());
  CHECK(counters_go_by_the_position_of_the_push());
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
  CHECK(a_flush_that_failed_is_not_believed_again());
  CHECK(what_a_dead_flusher_had_to_flush_is_written_again());
  CHECK(a_record_that_cannot_be_written_was_not_pushed());
  CHECK(without_room_for_a_file_all_goes_to_lmdb());
  CHECK(a_later_open_tries_again_to_make_a_file());
  CHECK(only_what_was_applied_can_be_renewed());
  CHECK(a_queue_is_forgotten_when_its_pushes_are_applied());
  CHECK(a_look_goes_from_an_id_on());
  CHECK(a_damaged_payload_is_not_handed_out());
  CHECK(what_is_about_to_leave_is_nobodys());
  CHECK(an_unfinished_application_is_found_out());
  CHECK(check_finds_what_is_wrong());
  CHECK(salvage_reads_what_can_be_read());
  CHECK(a_look_waits_for_nobody());
  CHECK(a_reader_needs_no_block());
  CHECK(a_child_of_fork_lets_go());
  CHECK(a_lock_dies_with_its_process());
  CHECK(a_push_wakes_a_taker_of_another_process());
  CHECK(many_threads_of_two_processes());
  clear_dir();
  remove_dir(dir);
  return exit_status();
}

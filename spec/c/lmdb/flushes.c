/* SPDX-License-Identifier: MIT */
/*
 * How often small pushes, takes and dones are flushed, and what happens when
 * the journal is held by another at that moment.
 */
#include <fcntl.h>
#include <sys/syscall.h>
#include <time.h>

#include "../holds.h"

#define SHOWN __attribute__((visibility("default")))

static int flushes;
static int data_flushes; /* of data.mdb */
static time_t later;        /* seconds that the monotonic clock is ahead */
static const char *held_at_flush; /* control file to be locked, or NULL */
static int holder = -1;

/* By another open file, as if of another process. */
static void hold_block(const char *path) {
  struct flock byte = {.l_type = F_WRLCK, .l_whence = SEEK_SET,
                       .l_start = 16, .l_len = 1};
  holder = open(path, O_RDWR | O_CLOEXEC);
  HOLDS(holder >= 0 && !fcntl(holder, F_OFD_SETLK, &byte));
}

SHOWN int fdatasync(int fd) {
  char link[64], path[4200] = "";
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  (void)!readlink(link, path, sizeof path - 1);
  flushes++;
  data_flushes += strstr(path, "/data.mdb") != NULL;
  if (held_at_flush && holder < 0) hold_block(held_at_flush);
  return (int)syscall(SYS_fdatasync, fd);
}

SHOWN int clock_gettime(clockid_t clock, struct timespec *t) {
  int rc = (int)syscall(SYS_clock_gettime, clock, t);
  if (clock == CLOCK_MONOTONIC) t->tv_sec += later;
  return rc;
}

/* ---- a store ------------------------------------------------------------- */

static const char *dir;
static respool *s;
static respool_queue *q;

static void begin(int sync) {
  respool_options o = RESPOOL_OPTIONS_INIT;
  o.sync = sync;
  o.timeout = 10000;
  dir = fresh_dir();
  WORKS(respool_open(dir, &o, &s));
  WORKS(respool_queue_open(s, "q", NULL, &q));
}

static void end(void) {
  respool_queue_free(q);
  respool_close(s);
  remove_dir(dir);
}

/* The flushes that a push takes. */
static int push(size_t size) {
  static char bytes[1 << 20];
  respool_payload item = {.body = {bytes, size}};
  int before = flushes;
  WORKS(respool_push(q, &item, 1, NULL, NULL));
  return flushes - before;
}

static respool_batch *take(void) {
  respool_batch *batch = NULL;
  WORKS(respool_take(q, NULL, &batch));
  HOLDS(batch && respool_batch_length(batch) == 1);
  return batch;
}

static int settle(respool_batch *batch, int no_wait) {
  respool_outcome done = RESPOOL_OUTCOME_INIT;
  respool_settle_options o = RESPOOL_SETTLE_OPTIONS_INIT;
  int before = flushes;
  done.kind = RESPOOL_DONE;
  o.no_wait = no_wait;
  WORKS(respool_batch_mark_rest(batch, &done));
  WORKS(respool_batch_settle(batch, &o, NULL));
  respool_batch_free(batch);
  return flushes - before;
}

/* ---- what holds ---------------------------------------------------------- */

static void a_small_push_is_one_flush_and_a_done_another(void) {
  begin(RESPOOL_SYNC_COMMIT);
  push(1); /* makes the file */
  settle(take(), 0);
  HOLDS(push(1) == 1);
  int before = flushes;
  respool_batch *batch = take();
  HOLDS(flushes == before);
  HOLDS(settle(batch, 0) == 1);
  end();
}

/* As a commit of LMDB flushes the one before it. */
static void a_done_that_does_not_wait_is_flushed(void) {
  begin(RESPOOL_SYNC_COMMIT);
  push(1);
  settle(take(), 0);
  push(1);
  HOLDS(settle(take(), 1) == 1);
  end();
}

static void relaxed_pushes_are_flushed_a_second_later(void) {
  begin(RESPOOL_SYNC_RELAXED);
  push(1);
  later += 1;
  push(1);
  for (int i = 0; i < 2; i++) {
    for (int k = 0; k < 9; k++) HOLDS(push(1) == 0);
    later += 1;
    HOLDS(push(1) == 1);
  }
  later = 0;
  end();
}

/* Else a power cut could undo the commit that made the queue, and leave the
   journal with items of it. */
static void a_queue_is_on_disk_before_the_journal_has_items_of_it(void) {
  static const int syncs[] = {RESPOOL_SYNC_COMMIT, RESPOOL_SYNC_RELAXED};
  for (int i = 0; i < 2; i++) {
    begin(syncs[i]);
    push(1);
    respool_queue_free(q);
    WORKS(respool_queue_open(s, "other", NULL, &q));
    data_flushes = 0;
    push(1);
    HOLDS(data_flushes == 1);
    push(1);
    HOLDS(data_flushes == 1);
    end();
  }
}

/* It was committed, and gave way to the holder of the block as if it had not
   begun: it was done once more. */
static void a_push_is_done_once_though_the_block_is_held_at_its_flush(void) {
  char control[4200];
  respool_page *page = NULL;
  begin(RESPOOL_SYNC_COMMIT);
  push(1);
  settle(take(), 0);
  snprintf(control, sizeof control, "%s/control", dir);
  held_at_flush = control;
  HOLDS(push(1 << 20) >= 1);
  WORKS(respool_peek(q, 10, &page));
  HOLDS(respool_page_length(page) == 1);
  respool_page_free(page);
  held_at_flush = NULL;
  close(holder);
  end();
}

int main(void) {
  alarm(120);
  CHECK(a_small_push_is_one_flush_and_a_done_another());
  CHECK(a_done_that_does_not_wait_is_flushed());
  CHECK(a_queue_is_on_disk_before_the_journal_has_items_of_it());
  CHECK(relaxed_pushes_are_flushed_a_second_later());
  CHECK(a_push_is_done_once_though_the_block_is_held_at_its_flush());
  return exit_status();
}

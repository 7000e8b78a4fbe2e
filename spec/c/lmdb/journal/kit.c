/* SPDX-License-Identifier: MIT */
/*
 * The kit of the journal's specs; see kit.h.
 */
#include "kit.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>

atomic_int no_space, no_flush, cut_short, writes, flushes;
void (*at_flush)(void);

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

int fdatasync(int fd) {
  flushes++;
  if (at_flush) at_flush();
  if (!comes(&no_flush)) return (int)syscall(SYS_fdatasync, fd);
  errno = EIO;
  return -1;
}

const char *dir;

stand a, b;
arena memory;

void clear_dir(void) {
  static const char *const files[] = {"journal", "control", "applied",
                                      "journal.new", "applied.new", "old"};
  char path[4200];
  for (int i = 0; i < 6; i++) {
    snprintf(path, sizeof path, "%s/%s", dir, files[i]);
    unlink(path);
  }
}

void begin(void) {
  clear_dir();
  arena_init(&memory);
  WORKS(stand_open(&a, dir, HALF));
  b = (stand){.dirfd = -1};
}

int found_any(void *arg, const char *text) {
  if (!arg) printf("  check: %s\n", text);
  return ++*(arg ? (int *)arg : &(int){0}), arg ? 0 : 1;
}

void end(void) {
  if (a.j) HOLDS(stand_check(&a, found_any, NULL) == 0);
  stand_close(&a);
  stand_close(&b);
  arena_free(&memory);
}

void reopen(void) {
  stand_close(&a);
  stand_close(&b);
  WORKS(stand_open(&a, dir, HALF));
}

uint64_t push(stand *s, uint64_t queue, const char *text) {
  uint64_t id = 0;
  respool_bytes p = {text, strlen(text)};
  WORKS(stand_push(s, queue, &p, 1, &id));
  return id;
}

taken take(stand *s, uint64_t queue, int64_t lease) {
  taken t = {.id = 0};
  HOLDS(stand_take(s, queue, &t, 1, lease, 0, &memory) >= 0);
  return t;
}

int done(stand *s, uint64_t queue, taken t) {
  uint8_t o;
  return stand_done(s, queue, &t.id, &t.token, 1, &o);
}

bool says(taken t, const char *text) {
  return t.bytes.size == strlen(text) &&
         !memcmp(t.bytes.data, text, t.bytes.size);
}

void count(uint64_t queue, uint64_t pushed, uint64_t n_done) {
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

void lies(int in_side, int in_journal) {
  int n[2] = {0, 0};
  WORKS(stand_each(&a, count_each, n));
  HOLDS(n[0] == in_side);
  HOLDS(n[1] == in_journal);
}

journal_state state(void) {
  journal_state s;
  WORKS(journal_now(a.j, &s));
  return s;
}

void poke(const char *file, off_t at, const void *p, size_t n) {
  char path[4200];
  snprintf(path, sizeof path, "%s/%s", dir, file);
  int fd = open(path, O_RDWR);
  HOLDS(syscall(SYS_pwrite64, fd, p, n, at) == (ssize_t)n);
  close(fd);
}

void copy(const char *from, const char *to) {
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

void lifecycles(int n, size_t size) {
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

void kit_open(void) {
  dir = fresh_dir();
}

int kit_close(void) {
  clear_dir();
  remove_dir(dir);
  return exit_status();
}

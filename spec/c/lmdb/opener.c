/* SPDX-License-Identifier: MIT */
/*
 * opener STORE respool|lmdb: opens a store, as we do or with nothing but LMDB,
 * and stops where it is about to open the data file. There it says "opening"
 * and its number; it stays until it is killed, or told by SIGUSR1 to go on
 * with a call that failed.
 *
 * opener STORE commit: pushes, and kills itself when the commit's last page is
 * written and LMDB's lock file does not tell of it yet.
 */
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "respool.h"

#define SHOWN __attribute__((visibility("default")))

static void go_on(int signal) {
  (void)signal;
}

static int fail_in_time(void) {
  printf("opening %d\n", (int)getpid());
  fflush(stdout);
  pause();
  errno = EMFILE;
  return -1;
}

static bool opens_whole, cuts_commit;

/* In place of the C library's, for LMDB. */
SHOWN int open64(const char *path, int flags, ...) {
  const char *name = strrchr(path, '/');
  va_list more;
  if (!opens_whole && name && !strcmp(name, "/data.mdb"))
    return fail_in_time();
  va_start(more, flags);
  int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags,
                        va_arg(more, unsigned));
  va_end(more);
  return fd;
}

SHOWN int open(const char *path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  int fd = open64(path, flags, va_arg(more, unsigned));
  va_end(more);
  return fd;
}

/* The last page of a commit is one of the file's first two, in part. */
SHOWN ssize_t pwrite64(int fd, const void *b, size_t n, off_t at) {
  enum { PAGE = 4096 };
  ssize_t done = syscall(SYS_pwrite64, fd, b, n, at);
  if (cuts_commit && n < PAGE && at < 2 * PAGE) kill(getpid(), SIGKILL);
  return done;
}

SHOWN ssize_t pwrite(int fd, const void *b, size_t n, off_t at) {
  return pwrite64(fd, b, n, at);
}

/* To return is to have failed. */
static int cut_commit(const char *path) {
  respool_queue *q;
  respool_payload one = {.body = {"\1", 1}};
  respool *s;
  respool_options o = RESPOOL_OPTIONS_INIT;
  o.no_journal = 1;
  opens_whole = true;
  int rc = respool_open(path, &o, &s);
  if (!rc) rc = respool_queue_open(s, "orders", NULL, &q);
  cuts_commit = true;
  if (!rc) rc = respool_push(q, &one, 1, NULL, NULL);
  printf("not killed: %s\n", rc ? respool_error_text() : "pushed");
  return EXIT_FAILURE;
}

static int open_plainly(const char *path) {
  MDB_env *e;
  int rc = mdb_env_create(&e);
  return rc ? rc : mdb_env_open(e, path, 0, 0640);
}

int main(int argc, char **argv) {
  respool *s;
  if (argc != 3) return EXIT_FAILURE;
  if (!strcmp(argv[2], "commit")) return cut_commit(argv[1]);
  signal(SIGUSR1, go_on);
  int rc = strcmp(argv[2], "lmdb") ? respool_open(argv[1], NULL, &s)
                                   : open_plainly(argv[1]);
  printf("%s\n", rc ? "not opened" : "opened");
  return rc ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* SPDX-License-Identifier: MIT */
/*
 * opener STORE respool|lmdb: opens a store, as we do or with nothing but LMDB,
 * and stops where it is about to open the data file. There it says "opening"
 * and its number; it stays until it is killed, or told by SIGUSR1 to go on
 * with a call that failed.
 */
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <signal.h>
#include <stdarg.h>
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

/* In place of the C library's, for LMDB. */
SHOWN int open64(const char *path, int flags, ...) {
  const char *name = strrchr(path, '/');
  va_list more;
  if (name && !strcmp(name, "/data.mdb")) return fail_in_time();
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

static int open_plainly(const char *path) {
  MDB_env *e;
  int rc = mdb_env_create(&e);
  return rc ? rc : mdb_env_open(e, path, 0, 0640);
}

int main(int argc, char **argv) {
  respool *s;
  if (argc != 3) return EXIT_FAILURE;
  signal(SIGUSR1, go_on);
  int rc = strcmp(argv[2], "lmdb") ? respool_open(argv[1], NULL, &s)
                                   : open_plainly(argv[1]);
  printf("%s\n", rc ? "not opened" : "opened");
  return rc ? EXIT_SUCCESS : EXIT_FAILURE;
}

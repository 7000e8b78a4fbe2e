/* SPDX-License-Identifier: MIT */
/*
 * What the figures were measured with, as lines of name and value: the
 * median time of overwriting one 4 KiB page of a file and flushing it with
 * fdatasync, in ns, and the versions of what the subjects are made of.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <lmdb.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "respool.h"

enum { TIMES = 301, PAGE = 4096 };

#ifdef __clang__
#define COMPILER __VERSION__
#else
#define COMPILER "gcc " __VERSION__
#endif

static int64_t overwrite(int fd, uint8_t *page, int i) {
  int64_t began = bench_now();
  page[0] = (uint8_t)i;
  if (pwrite(fd, page, PAGE, 0) != PAGE || fdatasync(fd) != 0)
    bench_die("fdatasync: %s", strerror(errno));
  return bench_now() - began;
}

static int64_t median_flush(const bench *b) {
  static uint8_t page[PAGE];
  int64_t ns[TIMES];
  int fd = open(bench_path(b, "page"), O_RDWR | O_CREAT, 0644);
  if (fd < 0)
    bench_die("%s: %s", b->dir, strerror(errno));
  for (int i = 0; i < TIMES; i++)
    ns[i] = overwrite(fd, page, i);
  close(fd);
  return bench_median(ns, TIMES);
}

int main(int argc, char **argv) {
  bench b;
  bench_init(&b, argc, argv);
  printf("fdatasync %" PRId64 "\n", median_flush(&b));
  printf("respool %s\n", RESPOOL_VERSION_STRING);
  printf("LMDB %d.%d.%d\n", MDB_VERSION_MAJOR, MDB_VERSION_MINOR,
         MDB_VERSION_PATCH);
  printf("SQLite %s\n", SQLITE_VERSION);
  printf("compiler %s\n", COMPILER);
  bench_free(&b);
  return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * Options, stamps and clocks of the benchmark programs. CPU time is that of
 * the whole process, user and system, from getrusage.
 */
#include "bench.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define LEAST_GROUPS 2 /* that each producer pushes */

static const char usage[] =
  "usage: %s --dir DIR [--seconds S] [--items N] [--group N]\n"
  "       [--size BYTES] [--backlog N] [--producers N --consumers N]\n";

void bench_die(const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  vfprintf(stderr, fmt, args);
  va_end(args);
  fputc('\n', stderr);
  exit(1);
}

static uint64_t number(const char *text) {
  char *end;
  errno = 0;
  uint64_t n = strtoull(text, &end, 10);
  if (errno != 0 || end == text || *end != '\0' || *text == '-')
    bench_die("not a number: %s", text);
  return n;
}

static double real(const char *text) {
  char *end;
  double x = strtod(text, &end);
  if (end == text || *end != '\0' || !(x >= 0))
    bench_die("not a number: %s", text);
  return x;
}

static int threads(const char *text) {
  uint64_t n = number(text);
  if (n > 256)
    bench_die("too many threads: %s", text);
  return (int)n;
}

static void set(bench *b, int option, const char *program) {
  switch (option) {
  case 'd': b->dir = optarg; break;
  case 't': b->seconds = real(optarg); break;
  case 'i': b->items = number(optarg); break;
  case 'g': b->group = number(optarg); break;
  case 's': b->size = number(optarg); break;
  case 'b': b->backlog = number(optarg); break;
  case 'p': b->producers = threads(optarg); break;
  case 'c': b->consumers = threads(optarg); break;
  default: bench_die(usage, program);
  }
}

static void read_options(bench *b, int argc, char **argv) {
  static const struct option names[] = {
    { "dir", required_argument, NULL, 'd' },
    { "seconds", required_argument, NULL, 't' },
    { "items", required_argument, NULL, 'i' },
    { "group", required_argument, NULL, 'g' },
    { "size", required_argument, NULL, 's' },
    { "backlog", required_argument, NULL, 'b' },
    { "producers", required_argument, NULL, 'p' },
    { "consumers", required_argument, NULL, 'c' },
    { NULL, 0, NULL, 0 },
  };
  int c;
  while ((c = getopt_long(argc, argv, "", names, NULL)) != -1)
    set(b, c, argv[0]);
  if (b->dir == NULL || optind != argc)
    bench_die(usage, argv[0]);
}

static void check_options(const bench *b) {
  if (b->group == 0 || b->items == 0)
    bench_die("--items and --group must be at least 1");
  if (b->items % b->group != 0 || b->backlog % b->group != 0)
    bench_die("--items and --backlog must be multiples of --group");
  if (b->size < sizeof(uint64_t) || b->size > 1 << 20)
    bench_die("--size must be from 8 to 1048576");
  if ((b->producers == 0) != (b->consumers == 0))
    bench_die("--producers and --consumers go together");
}

/* Bytes that do not compress, the same in every run. */
static void fill(uint8_t *p, size_t n) {
  uint64_t x = UINT64_C(0x9e3779b97f4a7c15);
  for (size_t i = 0; i < n; i++) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    p[i] = (uint8_t)x;
  }
}

uint8_t *bench_bytes(const bench *b) {
  uint8_t *bytes = malloc(b->group * b->size);
  if (bytes == NULL)
    bench_die("not enough memory for a group");
  fill(bytes, b->group * b->size);
  return bytes;
}

void bench_init(bench *b, int argc, char **argv) {
  *b = (bench){ .seconds = 1, .items = 100000000, .group = 1000,
                .size = 100 };
  read_options(b, argc, argv);
  check_options(b);
  b->bytes = bench_bytes(b);
  b->batch = bench_bytes(b);
}

void bench_free(bench *b) {
  free(b->bytes);
  free(b->batch);
}

const uint8_t *bench_stamp(const bench *b, uint8_t *bytes, uint64_t first) {
  for (size_t i = 0; i < b->group; i++) {
    uint64_t stamp = first + i;
    memcpy(bytes + i * b->size, &stamp, sizeof stamp);
  }
  return bytes;
}

uint64_t bench_read(const bench *b, const void *item, size_t size) {
  uint64_t stamp;
  if (size != b->size)
    bench_die("an item of %zu bytes came back as %zu", b->size, size);
  memcpy(&stamp, item, sizeof stamp);
  return stamp;
}

void bench_expect(const bench *b, const void *item, size_t size,
                  uint64_t ordinal) {
  uint64_t stamp = bench_read(b, item, size);
  if (stamp != ordinal)
    bench_die("item %" PRIu64 " came where %" PRIu64 " was due", stamp,
              ordinal);
}

int64_t bench_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t timeval_ns(struct timeval t) {
  return (int64_t)t.tv_sec * 1000000000 + (int64_t)t.tv_usec * 1000;
}

int64_t bench_cpu(void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return timeval_ns(u.ru_utime) + timeval_ns(u.ru_stime);
}

void bench_start(bench *b) {
  b->cpu = bench_cpu();
  b->wall = bench_now();
}

bool bench_goes_on(const bench *b, uint64_t n) {
  uint64_t least = LEAST_GROUPS * b->group;
  if (n >= b->items)
    return false;
  return n < least * (b->producers ? (uint64_t)b->producers : 1) ||
         (double)(bench_now() - b->wall) < b->seconds * 1e9;
}

void bench_stop(const bench *b, uint64_t n) {
  int64_t wall = bench_now() - b->wall, cpu = bench_cpu() - b->cpu;
  printf("items %" PRIu64 "\nwall_ns %" PRId64 "\ncpu_ns %" PRId64 "\n", n,
         wall, cpu);
}

void bench_round(bench *b, void *q, bench_verb push, bench_verb drain) {
  for (uint64_t n = 0; n < b->backlog; n += b->group)
    push(q);
  bench_start(b);
  uint64_t n = 0;
  for (; bench_goes_on(b, n); n += b->group) {
    push(q);
    drain(q);
  }
  bench_stop(b, n);
}

const char *bench_path(const bench *b, const char *name) {
  static char path[4096];
  int n = snprintf(path, sizeof path, "%s/%s", b->dir, name);
  if (n < 0 || (size_t)n >= sizeof path)
    bench_die("--dir is too long");
  return path;
}

static int compare(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

int64_t bench_median(int64_t *ns, size_t n) {
  qsort(ns, n, sizeof *ns, compare);
  return ns[n / 2];
}

/* SPDX-License-Identifier: MIT */
/*
 * What the benchmark programs share. Each program is one subject: it works
 * in a directory of its own, measures itself and prints lines of a name and
 * a number, which run.lua gathers. Items are stamped with their ordinal, so
 * that a subject that loses, repeats or reorders one stops with a message.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct bench {
  const char *dir;   /* exists, is empty, on the disk to be measured */
  double seconds;    /* the measured part goes on so long */
  uint64_t items;    /* and stops at so many; a multiple of group */
  uint64_t backlog;  /* pushed before it and left there; likewise */
  size_t group;      /* items a commit */
  size_t size;       /* bytes an item */
  int producers;     /* threads, where the subject can; 0: all on one */
  int consumers;
  uint8_t *bytes;    /* one group, for bench_stamp */
  uint8_t *batch;      /* as much room again, for what is taken */
  int64_t wall, cpu; /* when the measured part began, in ns */
} bench;

/* Reads the command line into `b`; a bad one is explained and ends the
   program. bench_free gives the memory back. */
void bench_init(bench *b, int argc, char **argv);
void bench_free(bench *b);

/* A group's worth of bytes that do not compress; free() gives it back. */
uint8_t *bench_bytes(const bench *b);

/* Stamps the `group` items that lie end to end at `bytes`, from `first` on,
   and returns them. */
const uint8_t *bench_stamp(const bench *b, uint8_t *bytes, uint64_t first);

/* The stamp of an item, which must be as long as it was. */
uint64_t bench_read(const bench *b, const void *item, size_t size);

/* Stops the program unless `item` bears the stamp `ordinal`. */
void bench_expect(const bench *b, const void *item, size_t size,
                  uint64_t ordinal);

/* The measured part: begun, to be gone on with after `n` items (though time
   is up, until each producer pushed two groups), and its result. */
void bench_start(bench *b);
bool bench_goes_on(const bench *b, uint64_t n);
void bench_stop(const bench *b, uint64_t n);

/* A whole round on one thread: pushes the backlog, then pushes a group and
   drains one (take and done) for as long as it goes on. */
typedef void (*bench_verb)(void *q);
void bench_round(bench *b, void *q, bench_verb push, bench_verb drain);

/* A path in the directory of the round, in static storage. */
const char *bench_path(const bench *b, const char *name);

/* Of `n` times, which are sorted; n is at least 1. */
int64_t bench_median(int64_t *ns, size_t n);

int64_t bench_now(void); /* monotonic, in ns */
int64_t bench_cpu(void); /* of the process, user and system, in ns */
_Noreturn void bench_die(const char *fmt, ...)
  __attribute__((format(printf, 1, 2)));

#endif

/* SPDX-License-Identifier: MIT */
/*
 * What the benchmark programs share. Each program is one subject: it does
 * one round of push, take and done in a directory of its own and prints one
 * line, which run.lua gathers. Items are stamped with their ordinal, so that
 * a subject that loses, repeats or reorders one stops with a message.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stddef.h>
#include <stdint.h>

typedef struct bench {
  const char *dir;   /* exists, is empty, on the disk to be measured */
  uint64_t items;    /* in the measured part; a multiple of group */
  uint64_t backlog;  /* pushed before it and left there; likewise */
  size_t group;      /* items a commit */
  size_t size;       /* bytes an item */
  int threads;       /* 2: producer and consumer, where the subject can */
  uint8_t *bytes;    /* one group, from bench_group */
  uint8_t *lot;      /* as much room again, for what is taken */
  int64_t wall, cpu; /* when the measured part began, in ns */
} bench;

/* Reads the command line into `b`; a bad one is explained and ends the
   program. bench_free gives the memory back. */
void bench_init(bench *b, int argc, char **argv);
void bench_free(bench *b);

/* The next group: `group` items of `size` bytes, end to end, stamped from
   `first` on. Valid until the next call. */
const uint8_t *bench_group(bench *b, uint64_t first);

/* Stops the program unless `item` bears the stamp `ordinal`. */
void bench_expect(const bench *b, const void *item, size_t size,
                  uint64_t ordinal);

/* The measured part, and its one line on standard output. */
void bench_start(bench *b);
void bench_stop(const bench *b);

/* A whole round on one thread: pushes the backlog, then pushes a group and
   drains one (take and done) until `items` went through. */
typedef void (*bench_verb)(void *q);
void bench_round(bench *b, void *q, bench_verb push, bench_verb drain);

/* A path in the directory of the round, in static storage. */
const char *bench_path(const bench *b, const char *name);

int64_t bench_now(void); /* monotonic, in ns */
_Noreturn void bench_die(const char *fmt, ...)
  __attribute__((format(printf, 1, 2)));

#endif

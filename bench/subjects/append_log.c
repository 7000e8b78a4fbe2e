/* SPDX-License-Identifier: MIT */
/*
 * The least a durable queue with leases can do: an append-only file. A group
 * is three appends, each followed by fdatasync: the items, one lease record,
 * one ack record. Nothing is indexed, nothing is ever given back. Items are
 * read back from the file when they are taken.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

typedef struct record {
  uint64_t first, n;
  int64_t visible_at; /* 0: done */
  uint64_t token;
} record;

typedef struct journal {
  bench b;
  int fd;
  off_t end;
  uint64_t tail, head, token;
  off_t *groups; /* where each group's items begin */
  size_t room;   /* for so many */
} journal;

static void append(journal *q, const void *data, size_t n) {
  const uint8_t *p = data;
  while (n > 0) {
    ssize_t w = write(q->fd, p, n);
    if (w < 0)
      bench_die("write: %s", strerror(errno));
    p += w;
    n -= (size_t)w;
    q->end += w;
  }
  if (fdatasync(q->fd) != 0)
    bench_die("fdatasync: %s", strerror(errno));
}

/* Where the next group will lie. */
static void note_group(journal *q) {
  size_t n = q->tail / q->b.group;
  if (n == q->room) {
    q->room = n ? 2 * n : 1024;
    q->groups = realloc(q->groups, q->room * sizeof *q->groups);
    if (q->groups == NULL)
      bench_die("not enough memory for %zu groups", q->room);
  }
  q->groups[n] = q->end;
}

static void push(void *arg) {
  journal *q = arg;
  note_group(q);
  const uint8_t *group = bench_stamp(&q->b, q->b.bytes, q->tail);
  append(q, group, q->b.group * q->b.size);
  q->tail += q->b.group;
}

static void take(journal *q) {
  size_t n = q->b.group * q->b.size;
  off_t at = q->groups[q->head / q->b.group];
  if (pread(q->fd, q->b.batch, n, at) != (ssize_t)n)
    bench_die("read: short");
  for (size_t i = 0; i < q->b.group; i++)
    bench_expect(&q->b, q->b.batch + i * q->b.size, q->b.size, q->head + i);
  record lease = { q->head, q->b.group, (int64_t)time(NULL) + 30,
                   ++q->token };
  append(q, &lease, sizeof lease);
}

static void done(journal *q) {
  record ack = { q->head, q->b.group, 0, q->token };
  append(q, &ack, sizeof ack);
  q->head += q->b.group;
}

static void open_journal(journal *q) {
  q->fd = open(bench_path(&q->b, "log"), O_RDWR | O_CREAT | O_APPEND, 0644);
  if (q->fd < 0)
    bench_die("%s: %s", q->b.dir, strerror(errno));
}

static void drain(void *q) {
  take(q);
  done(q);
}

int main(int argc, char **argv) {
  journal q = { .fd = -1 };
  bench_init(&q.b, argc, argv);
  open_journal(&q);
  bench_round(&q.b, &q, push, drain);
  close(q.fd);
  free(q.groups);
  bench_free(&q.b);
  return 0;
}

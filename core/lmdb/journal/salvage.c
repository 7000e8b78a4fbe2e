/* SPDX-License-Identifier: MIT */
/*
 * A file of unknown state, record by record: for repair, when LMDB's position
 * is lost, or the chain is broken. Each record tells by its own sum whether it
 * is whole; records of a former turn that still lie behind the tail are
 * reported too, and known by their positions.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/array.h"
#include "base/error.h"
#include "lmdb/journal/files/log.h"

typedef struct found {
  uint64_t pos;
  const record *at;
} found;

typedef struct finds {
  found *of;
  size_t n, cap;
} finds;

static bool add(finds *f, const record *r) {
  if (!array_grow(&f->of, f->n, 1, &f->cap, sizeof *f->of)) return false;
  f->of[f->n++] = (found){r->pos, r};
  return true;
}

/* Is there a record at this byte of this half? */
static const record *record_here(const uint8_t *bytes, uint64_t half,
                                 uint64_t k, uint64_t at) {
  const record *r = (const void *)(bytes + at);
  if (r->pos % half != at || r->pos / half % 2 != k) return NULL;
  return record_at(bytes, half, r->pos);
}

static int find_in_half(const uint8_t *bytes, uint64_t half, uint64_t k,
                        finds *f) {
  for (uint64_t at = 0; at + sizeof(record) <= half;) {
    const record *r = record_here(bytes, half, k, at);
    if (r && !add(f, r)) return RESPOOL_NOMEM;
    at += r ? r->len : 8;
  }
  return 0;
}

static int by_pos(const void *a, const void *b) {
  uint64_t x = ((const found *)a)->pos, y = ((const found *)b)->pos;
  return x < y ? -1 : x > y;
}

static int tell_push(const record *r, journal_record_fn *each, void *arg) {
  const piece *p = (const void *)(r + 1);
  const uint8_t *bytes = (const uint8_t *)(p + r->count);
  int rc = 0;
  for (uint16_t i = 0; i < r->count && !rc; bytes += p[i++].len) {
    journal_item item = {.queue = r->queue, .id = r->first + i,
                         .time = r->time, .expires = r->expires,
                         .priority = r->priority,
                         .packed = {bytes, p[i].len}};
    item.damaged = payload_sum(bytes, p[i].len, item.id) != p[i].sum;
    rc = each(arg, &(journal_record){false, r->pos, r->queue, item.id,
                                     &item});
  }
  return rc;
}

static int tell_done(const record *r, journal_record_fn *each, void *arg) {
  const uint64_t *ids = (const void *)(r + 1);
  int rc = 0;
  for (uint16_t i = 0; i < r->count && !rc; i++)
    rc = each(arg, &(journal_record){true, r->pos, r->queue, ids[i], NULL});
  return rc;
}

static int salvage(int fd, const head *h, uint8_t *bytes,
                   journal_record_fn *each, void *arg) {
  finds f = {NULL, 0, 0};
  int rc = 0;
  for (uint64_t k = 0; k < 2 && !rc; k++) {
    uint8_t *half = bytes + k * h->half;
    memset(half, 0, h->half); /* what cannot be read is no record */
    for (uint64_t at = 0; at < h->half; at += PAGE)
      (void)!pread(fd, half + at, PAGE,
                   log_place(h->half, k * h->half + at));
    rc = find_in_half(half, h->half, k, &f);
  }
  if (f.n) qsort(f.of, f.n, sizeof *f.of, by_pos);
  for (size_t i = 0; i < f.n && !rc; i++) {
    const record *r = f.of[i].at;
    if (r->kind != RECORD_END)
      rc = r->kind == RECORD_PUSH ? tell_push(r, each, arg)
                                  : tell_done(r, each, arg);
  }
  free(f.of);
  return rc;
}

int journal_salvage(int dirfd, journal_record_fn *each, void *arg) {
  head h;
  int fd, rc = log_open(dirfd, NULL, &fd, &h);
  if (rc) return rc;
  uint8_t *bytes = malloc(2 * h.half);
  rc = bytes ? salvage(fd, &h, bytes, each, arg) : RESPOOL_NOMEM;
  if (rc == RESPOOL_NOMEM)
    (void)fail(rc, "not enough memory to read the journal");
  free(bytes);
  close(fd);
  return rc;
}

/* SPDX-License-Identifier: MIT */
/*
 * The journal's file and its records; see log.h.
 */
#include "lmdb/journal/files/log.h"

#include "record/item.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/hash.h"
#include "lmdb/env/files.h"

#define LAYOUT 1

static const char name[] = "journal", made_name[] = "journal.new";
static const uint8_t magic[8] = "respool";

_Static_assert(sizeof(record) == 64 && sizeof(head) == 64, "no padding");

/* ---- the file ------------------------------------------------------------ */

static int cannot(const char *what) {
  int code = errno == ENOSPC || errno == EDQUOT ? RESPOOL_NOSPACE
             : errno == ENOMEM ? RESPOOL_NOMEM : RESPOOL_IO;
  return fail(code, "cannot %s the journal: %s", what, file_error(errno));
}

static uint64_t head_sum(const head *h) {
  return XXH3_64bits(h, offsetof(head, sum));
}

static int head_check(int fd, const uint8_t store[16], head *h) {
  struct stat st;
  if (fstat(fd, &st) || pread(fd, h, sizeof *h, 0) != sizeof *h ||
      memcmp(h->magic, magic, sizeof magic))
    return fail(RESPOOL_CORRUPT, "the journal has no head");
  if (h->layout != LAYOUT)
    return fail(RESPOOL_VERSION, "the journal has layout %u; this program "
                "knows %d", h->layout, LAYOUT);
  if (head_sum(h) != h->sum || h->half % PAGE || h->half < 16 * PAGE ||
      h->half > UINT32_MAX / 2 || h->start % h->half ||
      (uint64_t)st.st_size != PAGE + 2 * h->half)
    return fail(RESPOOL_CORRUPT, "the head of the journal is damaged");
  if (store && memcmp(h->store, store, 16))
    return fail(RESPOOL_CORRUPT, "the journal belongs to another store");
  return 0;
}

int log_open(int dirfd, const uint8_t store[16], int *fd, head *h) {
  *fd = file_open(dirfd, name, O_RDWR);
  if (*fd < 0) /* read-only handles may not be allowed to write */
    *fd = file_open(dirfd, name, O_RDONLY);
  if (*fd < 0 && errno == ENOENT)
    return fail(RESPOOL_NOT_FOUND, "there is no journal");
  if (*fd < 0) return cannot("open");
  (void)posix_fadvise(*fd, 0, 0, POSIX_FADV_RANDOM);
  int rc = head_check(*fd, store, h);
  if (!rc) return 0;
  close(*fd);
  *fd = -1;
  return rc;
}

/* Page by page: a large piece of the page cache is later accounted as written
   whole when a few bytes of it are. */
static int write_zeros(int fd, const head *h) {
  uint8_t page[PAGE] = {0};
  memcpy(page, h, sizeof *h);
  for (uint64_t at = 0; at < PAGE + 2 * h->half; at += PAGE) {
    if (pwrite(fd, page, PAGE, (off_t)at) != PAGE) return -1;
    memset(page, 0, sizeof *h);
  }
  return fsync(fd);
}

static int put_in_place(const journal *j, const head *h) {
  (void)unlinkat(j->dirfd, made_name, 0);
  int fd = file_make(j->dirfd, made_name, FILE_MODE);
  if (fd < 0) return cannot("make");
  errno = 0;
  int rc = files_match(j->dirfd, fd);
  if (!rc) rc = write_zeros(fd, h);
  if (!rc) {
    FAULT_POINT("journal made");
    rc = renameat(j->dirfd, made_name, j->dirfd, name);
  }
  if (!rc) rc = fsync(j->dirfd);
  if (rc && !errno) errno = ENOSPC; /* a short write */
  if (rc) rc = cannot("make");
  close(fd);
  if (rc) (void)unlinkat(j->dirfd, made_name, 0);
  return rc;
}

int log_remove(const journal *j) {
  return unlinkat(j->dirfd, name, 0) || fsync(j->dirfd) ? cannot("remove") : 0;
}

int log_make(journal *j, uint64_t start) {
  control *c = j->c;
  head h = {.layout = LAYOUT, .half = c->half, .start = start};
  memcpy(h.magic, magic, sizeof magic);
  memcpy(h.store, c->store, sizeof h.store);
  do
    if (getrandom(&h.seed, sizeof h.seed, 0) != sizeof h.seed)
      return cannot("make");
  while (!h.seed);
  h.sum = head_sum(&h);
  int rc = put_in_place(j, &h);
  if (rc) return rc;
  c->start = start;
  c->seed = h.seed;
  return 0;
}

/* dup3 lets threads that are reading the former file finish. */
static int reopen(journal *j, uint32_t now) {
  head h;
  int fd, rc = log_open(j->dirfd, j->c->store, &fd, &h);
  if (rc) return rc;
  if (j->fd < 0)
    j->fd = fd;
  else {
    rc = dup3(fd, j->fd, O_CLOEXEC) < 0 ? cannot("open") : 0;
    close(fd);
  }
  if (!rc) atomic_store(&j->generation, now);
  return rc;
}

int log_reopen(journal *j) {
  if (atomic_load(&j->c->generation) == atomic_load(&j->generation)) return 0;
  pthread_mutex_lock(&j->reopening);
  uint32_t now = atomic_load(&j->c->generation);
  int rc = now == atomic_load(&j->generation) ? 0 : reopen(j, now);
  pthread_mutex_unlock(&j->reopening);
  return rc;
}

/* ---- records ------------------------------------------------------------- */

uint32_t payload_sum(const void *p, size_t n, uint64_t id) {
  return (uint32_t)XXH3_64bits_withSeed(p, n, id);
}

size_t payload_body(const void *p, size_t n) {
  unpacker u;
  item i;
  blob_ref r;
  unpacker_init(&u, p, n);
  return item_unpack(&u, &i, &r) ? i.body.size : n;
}

static uint64_t record_sum(const record *r) {
  return XXH3_64bits_withSeed((const uint8_t *)r + 8, r->len - 8, r->prev);
}

/* Does what it counts lie within it? */
static bool is_shaped(const record *r) {
  size_t left = r->len - sizeof *r;
  if (r->kind == RECORD_END) return left == 0;
  if (r->kind == RECORD_DONE)
    return left == r->count * sizeof(uint64_t);
  if (r->kind != RECORD_PUSH || left < r->count * sizeof(piece)) return false;
  const piece *p = (const void *)(r + 1);
  uint64_t n = r->count * sizeof(piece);
  for (int i = 0; i < r->count; i++) n += p[i].len;
  return n <= left && left - n < 8;
}

const record *record_at(const uint8_t *bytes, uint64_t half, uint64_t pos) {
  uint64_t left = half - pos % half;
  if (left < sizeof(record)) return NULL;
  const record *r = (const void *)(bytes + pos % half);
  if (r->len < sizeof *r || r->len % 8 || r->len > left || r->pos != pos)
    return NULL;
  return record_sum(r) == r->sum && is_shaped(r) ? r : NULL;
}

bool record_follows(const record *r, uint64_t chain) {
  return r->prev == chain;
}

/* ---- the tail ------------------------------------------------------------ */

static int write_at(const journal *j, const void *p, size_t n, uint64_t pos) {
  ssize_t done = pwrite(j->fd, p, n, log_place(j->c->half, pos));
  if (done == (ssize_t)n) return 0;
  if (done >= 0) errno = ENOSPC;
  return cannot("write");
}

void log_half_is_old(control *c) {
  for (int i = 0; i < JOURNAL_QUEUES; i++) {
    row *r = &c->row[i];
    r->old.pushed += r->fresh.pushed;
    r->old.pushed_bytes += r->fresh.pushed_bytes;
    r->old.done += r->fresh.done;
    r->fresh = (tally){0};
  }
}

/* END overwrites whatever a writer that died has left at the tail: a record
   that is whole, but behind which the log does not go on. */
static int write_end(journal *j, uint64_t tail) {
  control *c = j->c;
  record end = {.prev = c->chain, .pos = tail, .len = sizeof end,
                .kind = RECORD_END};
  if (c->half - tail % c->half < sizeof end || FAULT_WRONG("no END"))
    return 0;
  end.sum = record_sum(&end);
  int rc = write_at(j, &end, sizeof end, tail);
  if (!rc) c->chain = end.sum;
  FAULT_POINT("journal end written");
  return rc;
}

/* A half is never filled exactly: the tail of a full one is the start of the
   next. */
bool log_room(journal *j, size_t len, uint64_t spare) {
  control *c = j->c;
  uint64_t tail = atomic_load(&c->tail), h = c->half;
  if (tail % h + len + spare < h) return true;
  if (atomic_load(&c->freed) < tail / h * h || len + spare >= h) return false;
  if (write_end(j, tail)) return false;
  c->current = (point){(tail / h + 1) * h, c->chain};
  log_half_is_old(c);
  FAULT_POINT("journal half changed");
  atomic_store(&c->tail, c->current.pos);
  return true;
}

/* A write that failed, or was cut short, may have left a record that is whole,
   behind a tail that does not move: the next to open would believe it, though
   its push went elsewhere. So it is made void, on disk, or the log is given up
   until it is renewed. */
static void void_record(const journal *j, uint64_t pos) {
  static const uint64_t none;
  int error = errno;
  if (pwrite(j->fd, &none, sizeof none, log_place(j->c->half, pos)) !=
          (ssize_t)sizeof none ||
      fdatasync(j->fd))
    atomic_store(&j->c->failed, 1);
  errno = error;
}

/* With zeros up to the end of its page: the kernel then reads no page, and
   nothing old lies behind the tail. */
int log_write(journal *j) {
  record *r = (void *)j->record;
  r->pos = atomic_load(&j->c->tail);
  r->prev = j->c->chain;
  r->sum = record_sum(r);
  size_t pad = -(r->pos + r->len) % PAGE;
  uint64_t left = j->c->half - (r->pos + r->len) % j->c->half;
  if (pad > left) pad = left;
  memset(j->record + r->len, 0, pad);
  int rc = write_at(j, r, r->len + pad, r->pos);
  if (rc) void_record(j, r->pos);
  FAULT_POINT("journal written");
  return rc;
}

void log_advance(journal *j) {
  const record *r = (const void *)j->record;
  j->c->chain = r->sum;
  FAULT_POINT("journal chained");
  atomic_store(&j->c->tail, r->pos + r->len);
  FAULT_POINT("journal tail moved");
}

int log_write_again(const journal *j, uint64_t from) {
  uint8_t page[PAGE];
  uint64_t tail = atomic_load(&j->c->tail);
  if (from >= tail) return 0;
  for (uint64_t pos = from / PAGE * PAGE; pos < tail; pos += PAGE) {
    off_t at = log_place(j->c->half, pos);
    if (pread(j->fd, page, PAGE, at) != PAGE ||
        pwrite(j->fd, page, PAGE, at) != PAGE)
      return fail(RESPOOL_IO, "cannot write the journal again");
  }
  FAULT_POINT("journal written again");
  return 0;
}

bool log_due(control *c) {
  uint64_t at = c->current.pos;
  if (at <= atomic_load(&c->freed) || atomic_load(&c->due_told) == at ||
      atomic_load(&c->tail) - at < c->half / 2)
    return false;
  atomic_store(&c->due_told, at);
  return true;
}

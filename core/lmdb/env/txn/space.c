/* SPDX-License-Identifier: MIT */
/*
 * The file's space; see space.h.
 */
#include "lmdb/env/txn/space.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

#include "base/file.h"

/* Pages on LMDB's free list: its database 0 holds, for each commit, a count
   and that many page numbers (mdb_stat.c). Only a reader may look at it. */
static size_t count_free(MDB_txn *reader) {
  MDB_cursor *c;
  MDB_val k, v;
  size_t n = 0;
  if (mdb_cursor_open(reader, 0, &c)) return 0;
  while (mdb_cursor_get(c, &k, &v, MDB_NEXT) == 0)
    n += *(const size_t *)v.mv_data;
  mdb_cursor_close(c);
  return n;
}

static size_t free_pages(txn *t) {
  MDB_txn *reader;
  if (!t->write) return count_free(t->mdb);
  if (mdb_txn_begin(t->env->mdb, NULL, MDB_RDONLY, &reader)) return 0;
  size_t n = count_free(reader);
  mdb_txn_abort(reader);
  return n;
}

static uint64_t page_size(const lmdb_env *e) {
  MDB_stat st;
  mdb_env_stat(e->mdb, &st);
  return st.ms_psize;
}

uint64_t space_high_water(const lmdb_env *e) {
  MDB_envinfo info;
  mdb_env_info(e->mdb, &info);
  return (info.me_last_pgno + 1) * page_size(e);
}

uint64_t space_used(txn *t) {
  return space_high_water(t->env) - free_pages(t) * page_size(t->env);
}

#define DISK_STEP ((uint64_t)1 << 20)

/* The largest file that this process may write (ulimit -f). */
static uint64_t largest_file(void) {
  struct rlimit most;
  return getrlimit(RLIMIT_FSIZE, &most) ? UINT64_MAX : most.rlim_cur;
}

/* Allocates blocks for the file up to `end`, without changing its size; 0 or
   errno. The kernel lets it pass the largest file, and refuses the writes. */
static int allocate(lmdb_env *e, uint64_t from, uint64_t end) {
  mdb_filehandle_t fd;
  int rc;
  if (end > largest_file()) return EFBIG;
  if (mdb_env_get_fd(e->mdb, &fd)) return EBADF;
  do
    rc = fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(end - from));
  while (rc && errno == EINTR);
  if (rc) return errno;
  e->disk_end = end;
  return 0;
}

static bool has_no_room(int rc) {
  return rc == ENOSPC || rc == EDQUOT || rc == EFBIG;
}

bool space_claim_file(lmdb_env *e, uint64_t more) {
  uint64_t from = space_high_water(e), end = from + more;
  if (e->memory || end <= e->disk_end) return true;
  int rc = allocate(e, from, end + DISK_STEP);
  if (has_no_room(rc)) rc = allocate(e, from, end);
  if (has_no_room(rc)) return false;
  if (rc) e->disk_end = UINT64_MAX; /* not supported by the file system? */
  return true;
}

bool space_claim(txn *t, uint64_t more, uint64_t reserve) {
  uint64_t all = t->claimed + more + reserve;
  if (!space_claim_file(t->env, all) && /* is there room within the file? */
      space_high_water(t->env) - space_used(t) < all)
    return false;
  t->claimed += more;
  return true;
}

static int64_t available_bytes(const lmdb_env *e) {
  struct statvfs disk;
  if (e->memory || fstatvfs(e->dirfd, &disk)) return RESPOOL_UNLIMITED;
  return (int64_t)(disk.f_bavail * disk.f_frsize);
}

/* Bytes from the start of the file that the disk has for it, its blocks and
   what is free; false where that cannot be known. */
static bool disk_end(const lmdb_env *e, uint64_t *end) {
  mdb_filehandle_t fd;
  file_identity f;
  int64_t left = available_bytes(e);
  if (left == RESPOOL_UNLIMITED || mdb_env_get_fd(e->mdb, &fd) ||
      file_identify(fd, "", &f))
    return false;
  *end = f.stored + (uint64_t)left;
  if (*end > largest_file()) *end = largest_file();
  return true;
}

bool space_has(txn *t, uint64_t more) {
  uint64_t end, from = space_high_water(t->env);
  if (!disk_end(t->env, &end)) return true;
  return from + more <= end || from - space_used(t) >= more;
}

bool space_may_grow(txn *t, uint64_t more) {
  uint64_t all = t->claimed + more;
  return space_high_water(t->env) + all <= t->env->map_size &&
         space_claim_file(t->env, all);
}

void space_stat(txn *t, respool_store_stats *out) {
  MDB_envinfo info;
  mdb_env_info(t->env->mdb, &info);
  out->map_bytes = info.me_mapsize;
  out->file_bytes = space_high_water(t->env);
  out->used_bytes = space_used(t);
  out->available_bytes = available_bytes(t->env);
  out->last_txn = info.me_last_txnid;
  out->readers = info.me_numreaders;
  out->max_readers = info.me_maxreaders;
}

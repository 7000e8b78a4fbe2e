/* SPDX-License-Identifier: MIT */
/*
 * Repair: makes a new store of a damaged one, which is only read; see
 * respool_repair. A new store that could not be finished is removed. The steps
 * and their order are here: copy the records (salvage.c), then make the
 * invariants hold: names and conflicts of segments, blobs, DLQs, queues, and
 * last the blobs and bitmaps that are no longer used.
 */
#include "lmdb/repair/repair.h"

#include "lmdb/env/directory.h"
#include "lmdb/env/env.h"
#include "lmdb/env/registry.h"
#include "lmdb/env/txn/cur.h"
#include "lmdb/repair/conflicts.h"
#include "lmdb/repair/rebuild_blobs.h"
#include "lmdb/repair/rebuild_dead.h"
#include "lmdb/repair/rebuild_journal.h"
#include "lmdb/repair/rebuild_queues.h"
#include "lmdb/unit/unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_BYTES ((uint64_t)16 << 30)

/* 0 when `to` is empty or missing; `*there`: it exists. */
static int check_to(const char *to, bool *there) {
  DIR *d = opendir(to);
  int n = 0;
  *there = d != NULL;
  if (!d && errno == ENOENT) return 0;
  if (!d)
    return fail(RESPOOL_IO, "cannot open '%.160s': %s", to,
                strerror(errno));
  for (const struct dirent *e; (e = readdir(d));)
    n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
  closedir(d);
  return n ? fail(RESPOOL_EXISTS, "'%.160s' is not empty", to) : 0;
}

static void remove_to(const char *to, bool there) {
  static const char *const files[] = {DATA_NAME, LOCK_NAME};
  int dirfd = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  for (int i = 0; i < 2 && dirfd >= 0; i++)
    (void)unlinkat(dirfd, files[i], 0);
  if (dirfd >= 0) close(dirfd);
  if (!there) rmdir(to);
}

/* ---- making the invariants hold ------------------------------------------ */

/* Removes bitmaps whose segment was not recovered. */
static void sweep_bitmaps(salvage *s) {
  place p = {{0, 0, 0}, 0, 0};
  respool_bytes found, v;
  for (;;) {
    key k = segment_key(&p);
    if (!txn_seek(s->t, DB_REMAINING, key_bytes(&k), &found, &v) ||
        !segment_key_read(found, &p))
      break;
    k = segment_key(&p);
    if (!txn_get(s->t, DB_SEGMENTS, key_bytes(&k), &v))
      txn_del(s->t, DB_REMAINING, key_bytes(&k));
    p.count++; /* the next key */
  }
}

/* Counts items and dead letters as lost that were not counted yet. */
static void count_lost(salvage *s) {
  respool_salvage *o = s->out;
  uint64_t known = o->lost_items + o->set_aside + o->nameless;
  if (s->fewer_items > known) o->lost_items += s->fewer_items - known;
  if (s->fewer_dead_letters > o->lost_dead_letters) o->lost_dead_letters =
      s->fewer_dead_letters;
}

static void salvage_rebuild(salvage *s) {
  if (salvage_commit(s)) salvage_name_dlqs(s);
  if (!s->rc) salvage_conflicts(s);
  if (!s->rc) salvage_blobs(s);
  if (salvage_commit(s)) salvage_dlqs(s);
  if (!s->rc) salvage_queues(s);
  if (salvage_commit(s)) salvage_journal(s);
  if (!s->rc) salvage_sweep_blobs(s);
  if (!s->rc) sweep_bitmaps(s);
  count_lost(s);
  salvage_commit(s);
}

/* ---- all ----------------------------------------------------------------- */

static void salvage_all(salvage *s) {
  s->rc = unit_begin(s->to, true, &s->t);
  if (!s->rc) salvage_copy(s);
  if (!s->rc) salvage_rebuild(s);
  if (s->t) unit_abort(s->t);
  s->t = NULL;
  free(s->owners[QUEUES].of);
  free(s->owners[DLQS].of);
  free(s->used.of);
  overlay_free(&s->recent);
  if (!s->rc) s->rc = env_sync(s->to);
}

/* By the path that /proc gives: closing a descriptor of the lock file would
   end LMDB's locks on it. */
static int hide_file(int dirfd, const char *name, mode_t mode) {
  char proc[64];
  struct stat st;
  int fd = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  snprintf(proc, sizeof proc, "/proc/self/fd/%d", fd);
  int rc = fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode) ||
           chmod(proc, st.st_mode & mode & 0777);
  if (fd >= 0) close(fd);
  return rc;
}

/* The new store is no more readable than the old one. */
static int hide(const salvage *s, mode_t mode, const char *to) {
  int dirfd = ((lmdb_env *)s->to)->dirfd;
  return hide_file(dirfd, DATA_NAME, mode) || hide_file(dirfd, LOCK_NAME, mode)
             ? fail(RESPOOL_IO, "cannot set the mode of '%.160s': %s", to,
                    strerror(errno))
             : 0;
}

/* The new store's map has room for what the old one's file holds. */
static int fill(salvage *s, const char *to) {
  respool_options o = RESPOOL_OPTIONS_INIT;
  uint64_t size = s->pages.n * s->pages.size;
  struct stat old;
  o.max_bytes = size > MAX_BYTES / 2 ? size * 2 : MAX_BYTES;
  int rc = fstat(s->pages.fd, &old) ? dir_fail(to, errno) : 0;
  if (!rc) rc = dir_make(to, old.st_mode);
  if (!rc) rc = env_open(NULL, NULL, to, &o, NULL, &s->to);
  if (rc) return rc;
  s->rc = hide(s, old.st_mode, to);
  if (!s->rc) salvage_all(s);
  env_close(s->to);
  return s->rc;
}

static int repair_from(salvage *s, int dirfd, const char *from,
                       const char *to) {
  bool there;
  int rc = check_to(to, &there);
  if (!rc && env_is_open(dirfd))
    rc = fail(RESPOOL_LOCKED, "store '%.160s' is open", from);
  if (!rc) rc = pages_open(&s->pages, dirfd, from);
  if (rc) return rc;
  rc = fill(s, to);
  pages_close(&s->pages);
  if (rc) remove_to(to, there);
  return rc;
}

int lmdb_repair(const char *from, const char *to, respool_finding_fn each,
                void *arg, respool_salvage *out) {
  salvage s = {.from = -1, .each = each, .arg = arg, .out = out};
  int dirfd = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dirfd < 0)
    return fail(errno == ENOENT ? RESPOOL_NOT_FOUND : RESPOOL_IO,
                "cannot open store '%.160s': %s", from, strerror(errno));
  s.from = dirfd;
  int rc = repair_from(&s, dirfd, from, to);
  close(dirfd);
  return rc;
}

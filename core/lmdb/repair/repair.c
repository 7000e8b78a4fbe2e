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
#include "lmdb/queue/unit.h"
#include "lmdb/repair/conflicts.h"
#include "lmdb/repair/rebuild_blobs.h"
#include "lmdb/repair/rebuild_dead.h"
#include "lmdb/repair/rebuild_queues.h"

#include <dirent.h>
#include <errno.h>
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
    return fail(RESPOOL_IO, "cannot open \"%.160s\": %s", to,
                strerror(errno));
  for (const struct dirent *e; (e = readdir(d));)
    n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
  closedir(d);
  return n ? fail(RESPOOL_EXISTS, "\"%.160s\" is not empty", to) : 0;
}

static void remove_to(const char *to, bool there) {
  static const char *const files[] = {"data.mdb", "lock.mdb",
                                      "data.mdb.new"};
  for (int i = 0; i < 3; i++) {
    char *path = dir_file(to, files[i]);
    if (path) unlink(path);
    free(path);
  }
  if (!there) rmdir(to);
}

/* ---- making the invariants hold ------------------------------------------ */

/* Removes bitmaps whose segment was not recovered or has another key. */
static void sweep_bitmaps(salvage *s) {
  place p = {{0, 0, 0}, 0, 0};
  respool_bytes found, v;
  uint64_t n = 0;
  for (;;) {
    key k = segment_key(&p);
    if (!txn_seek(s->t, DB_REMAINING, key_bytes(&k), &found, &v) ||
        !segment_key_read(found, &p))
      break;
    k = segment_key(&p);
    if (!txn_get(s->t, DB_SEGMENTS, key_bytes(&k), &v)) {
      txn_del(s->t, DB_REMAINING, key_bytes(&k));
      n++;
    }
    p.count++; /* the next key */
  }
  if (n)
    salvage_say(s, "lost: the bitmap%s of %llu segment%s; settled items may be "
                "back",
                n == 1 ? "" : "s", ULL(n), n == 1 ? "" : "s");
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
  if (!s->rc) s->rc = env_sync(s->to);
}

/* The new store's map has room for what the old one's file holds. */
static int fill(salvage *s, const char *to) {
  respool_options o = RESPOOL_OPTIONS_INIT;
  uint64_t size = s->pages.n * s->pages.size;
  o.max_bytes = size > MAX_BYTES / 2 ? size * 2 : MAX_BYTES;
  int rc = env_open(NULL, to, &o, NULL, &s->to);
  if (rc) return rc;
  salvage_all(s);
  env_close(s->to);
  return s->rc;
}

int lmdb_repair(const char *from, const char *to, respool_finding_fn each,
                void *arg, respool_salvage *out) {
  salvage s = {.each = each, .arg = arg, .out = out};
  bool there;
  int rc = check_to(to, &there);
  if (!rc && env_is_open(from))
    rc = fail(RESPOOL_LOCKED, "store \"%.160s\" is open", from);
  if (rc) return rc;
  char *file = dir_file(from, "data.mdb");
  rc = file ? pages_open(&s.pages, file)
            : fail(RESPOOL_NOMEM, "not enough memory for a repair");
  free(file);
  if (rc) return rc;
  rc = fill(&s, to);
  pages_close(&s.pages);
  if (rc) remove_to(to, there);
  return rc;
}

/* SPDX-License-Identifier: MIT */
/*
 * Migration; see migrate.h and, for the two formats, doc/format.md. The new
 * store is written to a file of its own, in commits of bounded size, and takes
 * the old one's place once it is whole and on disk.
 */
#include "lmdb/migrate/migrate.h"

#include "base/clock.h"
#include "base/fault.h"
#include "lmdb/env/create.h"
#include "lmdb/env/open.h"
#include "lmdb/env/replacement.h"
#include "lmdb/env/txn/recent.h"
#include "lmdb/migrate/convert.h"
#include "threads/wait.h"

#include <stdio.h>
#include <stdlib.h>

#define NEW_NAME "migrate.mdb"
#define COMMIT_BYTES ((uint64_t)4 << 20)
#define MAP_MIN ((uint64_t)1 << 30)

/* The databases of format 1. Keys of those that are `owned` begin with the
   number of a queue. */
static const struct {
  const char *name;
  enum db db;
  convert_fn convert;
  bool owned;
} databases[] = {
  {"meta", DB_META, convert_meta, false},
  {"queues", DB_QUEUES, convert_queue, false},
  {"boxes", DB_DLQS, convert_array, false},
  {"jobs", DB_REPLAYS, convert_replay, false},
  {"segments", DB_SEGMENTS, convert_segment, true},
  {"remaining", DB_REMAINING, convert_bitmap, true},
  {"claims", DB_CLAIMS, convert_claim, true},
  {"due", DB_DUE, convert_entry, true},
  {"expiries", DB_EXPIRIES, convert_entry, true},
  {"keys", DB_KEYS, convert_array, true},
  {"windows", DB_WINDOWS, convert_entry, true},
  {"history", DB_HISTORY, convert_summed, true},
  {"letters", DB_DEAD_LETTERS, convert_dead, false},
  {"blobs", DB_BLOBS, convert_blob, false},
};
#define DATABASES (sizeof databases / sizeof *databases)

/* ---- items that become notes -------------------------------------------- */

/* Which of the two queues of notes a key belongs to; -1: none. */
static int notes_of(const migration *m, respool_bytes k) {
  const uint8_t *b = k.data;
  if (k.size < 4) return -1;
  uint32_t number = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 |
                    (uint32_t)b[2] << 8 | b[3];
  for (int i = 0; number && i < 2; i++)
    if (m->notes[i] == number) return i;
  return -1;
}

static void note_item(migration *m, int which, unpacker *items, bool live) {
  item i;
  blob_ref r;
  packer whole;
  unpacker u;
  packer_init(&whole);
  bool found = item_unpack(items, &i, &r) && live;
  if (found && r.number) {
    if (!id_set_add(&m->blobs, r.number)) txn_fail(&m->t, RESPOOL_NOMEM);
    found = old_blob(m, r, &whole);
    txn_fail(&m->t, whole.rc);
    unpacker_init(&u, whole.data, whole.len);
    found = found && item_unpack(&u, &i, &r);
  }
  if (found) convert_note(m, which, &i);
  packer_free(&whole);
}

static bool is_live(const respool_bytes *bitmap, uint64_t i) {
  unpacker u;
  if (!bitmap->data) return true;
  unpacker_init(&u, bitmap->data, bitmap->size);
  respool_bytes raw = unpack_bytes(&u);
  const uint8_t *b = raw.data;
  return u.rc || i / 8 >= raw.size || (b[i / 8] >> i % 8 & 1);
}

/* [checksum, 1, pushed_at, expires_at, version, [item, ...]] */
static void note_segment(migration *m, int which, respool_bytes k,
                         respool_bytes v) {
  respool_bytes bitmap = {NULL, 0};
  unpacker u;
  if (!old_is_summed(v)) return;
  old_get(&m->from, "remaining", k, &bitmap);
  unpacker_init(&u, v.data, v.size);
  unpack_array(&u);
  for (int i = 0; i < 5; i++) unpack_skip(&u);
  uint64_t n = unpack_array(&u);
  for (uint64_t i = 0; i < n && !u.rc && !m->t.rc; i++)
    note_item(m, which, &u, is_live(&bitmap, i));
}

/* ---- all records -------------------------------------------------------- */

/* Tells how far it has come, and asks whether to go on. */
static int tell(const migration *m, const char *path) {
  char what[WHOM_MAX];
  uint64_t percent = m->whole ? m->read * 100 / m->whole : 0;
  snprintf(what, sizeof what, "the migration to format 2, %d %% done",
           percent < 99 ? (int)percent : 99);
  return wait_tell(clock_mono() - m->began, what) ? 0 : wait_fail(path, what);
}

static int commit(migration *m) {
  lmdb_env *to = m->t.env;
  recent_fold(&m->t);
  int rc = txn_commit(&m->t);
  m->pending = 0;
  FAULT_POINT("migrating");
  if (rc == RESPOOL_UNKNOWN_OUTCOME) rc = RESPOOL_IO; /* it is thrown away */
  if (!rc) rc = tell(m, to->path);
  return rc ? rc : txn_begin(to, true, &m->t);
}

static void migrate_record(migration *m, size_t i, const old_cur *c) {
  int which = databases[i].owned ? notes_of(m, c->key) : -1;
  if (which < 0)
    databases[i].convert(m, databases[i].db, c->key, c->value);
  else if (databases[i].db == DB_SEGMENTS)
    note_segment(m, which, c->key, c->value);
}

static int migrate_database(migration *m, size_t i) {
  old_cur c;
  int rc = 0;
  old_cur_open(&c, &m->from, databases[i].name);
  while (!rc && !m->t.rc && old_next(&c)) {
    migrate_record(m, i, &c);
    m->read += c.key.size + c.value.size;
    if (m->pending > COMMIT_BYTES) rc = commit(m);
  }
  old_cur_close(&c);
  if (!rc) rc = m->from.rc ? m->from.rc : m->t.rc;
  return rc ? rc : commit(m);
}

static int migrate_all(migration *m, lmdb_env *to) {
  int rc = txn_begin(to, true, &m->t);
  for (size_t i = 0; i < DATABASES && !rc; i++) rc = migrate_database(m, i);
  txn_abort(&m->t);
  return rc;
}

/* ---- the file ----------------------------------------------------------- */

static uint64_t old_format(old_store *s) {
  respool_bytes v;
  unpacker u;
  if (!old_get(s, "meta", phrase_of("format"), &v)) return 0;
  unpacker_init(&u, v.data, v.size);
  uint64_t format = unpack_uint(&u);
  return u.rc ? 0 : format;
}

static int fill(migration *m, const replacement *r, uint64_t size) {
  m->whole = size;
  m->began = clock_mono();
  lmdb_env to = {.path = (char *)(uintptr_t)r->dir, .dirfd = r->dirfd};
  to.map_size = size * 4 > MAP_MIN ? size * 4 : MAP_MIN;
  int rc = txn_env_make_open(&to, r->name, format_check);
  if (rc) return rc;
  packer_init(&m->p);
  rc = migrate_all(m, &to);
  packer_free(&m->p);
  free(m->blobs.of);
  txn_env_close(&to);
  return rc;
}

static int replace(migration *m, const char *path, int dirfd) {
  replacement r = {path, NEW_NAME, dirfd, -1};
  struct stat old;
  uint64_t size;
  int rc = data_look(path, dirfd, &old);
  if (rc) return rc;
  rc = replacement_open(&r, &old);
  if (!rc && FAULT_WRONG("whole before it is published"))
    rc = replacement_publish(&r, &size);
  if (!rc) rc = fill(m, &r, (uint64_t)old.st_size);
  if (!rc) rc = replacement_publish(&r, &size);
  replacement_close(&r, !rc);
  return rc;
}

static int migrate(const char *path, int dirfd, void *arg) {
  migration m = {.pending = 0};
  (void)arg;
  int rc = old_open(&m.from, path, dirfd);
  if (rc) return rc;
  if (old_format(&m.from) == 1) rc = replace(&m, path, dirfd);
  old_close(&m.from);
  return rc;
}

int lmdb_migrate(const char *path) {
  int rc = store_alone(path, migrate, NULL);
  FAULT_POINT("migrated");
  return rc;
}

/* SPDX-License-Identifier: MIT */
/*
 * Opening LMDB's environment, and what may be wrong with it: a lock file left
 * half made, a data file cut off, another program's data. See open.h.
 */
#include "lmdb/env/open.h"

#include "base/file.h"
#include "lmdb/env/directory.h"
#include "lmdb/env/files.h"
#include "lmdb/env/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAP_MIN ((size_t)1 << 30)

static const char *const tables[DB_COUNT] = {
  "meta", "segments", "dead_letters", "history", "blobs", "queues", "dlqs",
  "replays", "notes", "remaining", "claims", "due", "expiries", "keys",
  "windows", "entries", "partitions", "partition_items", "turns",
  "partition_due", "lones",
};

const char *db_name(enum db db) {
  return tables[db];
}

const char *tree_name(int which) {
  if (which == TREE_RECENT) return "recent";
  return which == TREE_STATE ? "state" : tables[which];
}

/* ---- databases ---------------------------------------------------------- */

static unsigned env_flags(const lmdb_env *e) {
  unsigned flags = MDB_NOTLS | MDB_NOMETASYNC;
  if (e->read_only) return MDB_NOTLS | MDB_RDONLY;
  return e->memory ? flags | MDB_NOSYNC : flags;
}

static int open_root(MDB_txn *t, bool *fresh) {
  MDB_dbi root;
  MDB_stat st;
  int rc = mdb_dbi_open(t, NULL, 0, &root);
  if (!rc) rc = mdb_stat(t, root, &st);
  if (!rc) *fresh = st.ms_entries == 0;
  return rc;
}

/* Another program's LMDB has entries, but not our databases. */
static int open_tree(lmdb_env *e, MDB_txn *t, int which, bool fresh) {
  unsigned flags = fresh ? MDB_CREATE : 0;
  int rc = mdb_dbi_open(t, tree_name(which), flags, &e->trees[which]);
  return rc == MDB_NOTFOUND || rc == MDB_INCOMPATIBLE ? MDB_INVALID : rc;
}

/* None of LMDB's error numbers: `look` failed; a reader found the last commit
   in the data alone. */
#define LOOKED (-1)
#define UNTOLD (-2)

/* Stores of older builds have no such database. */
static int open_recent(lmdb_env *e, const txn *t) {
  unsigned flags = t->write ? MDB_CREATE : 0;
  int rc = mdb_dbi_open(t->mdb, tree_name(TREE_RECENT), flags,
                        &e->trees[TREE_RECENT]);
  if (rc != MDB_NOTFOUND || !e->read_only) return rc;
  e->look_rc = fail(RESPOOL_VERSION, "store '%.120s' was written by an older "
                    "build: open it for writing once, as respool maintain "
                    "does", e->path);
  return LOOKED;
}

/* A transaction reads the number of the last commit from LMDB's lock file. The
   first process to open the environment writes it there; if that was killed
   before, a process that waited goes on without the number, and would
   overwrite the last commits. It would do other harm where the lock file tells
   of the data that was in place of this before. `last` is read from the data
   before the transaction begins.

   A writer in the middle of a commit has written the number to the data alone.
   Where it was stopped there, a reader goes on with the commit before. Where it
   was killed, LMDB takes the number over when the next writer begins; without
   one there would be no opening the store while others have it open. */
static int look_for_astray(const txn *t, uint64_t last) {
  uint64_t seen = mdb_txn_id(t->mdb) - (t->write ? 1 : 0);
  mdb_filehandle_t fd;
  if (seen + 1 == last && !t->write && !mdb_env_get_fd(t->env->mdb, &fd))
    return t->env->read_only || turn_is_taken(fd) ? 0 : UNTOLD;
  return seen < last || seen > txn_env_newest(t->env) ? LOCK_STALE : 0;
}

static int look_at(lmdb_env *e, txn *t, bool fresh,
                   int (*look)(txn *t, bool fresh)) {
  e->look_rc = look(t, fresh);
  return e->look_rc ? LOOKED : t->rc ? EIO : 0;
}

/* Of a store of another format only the first database is there for sure.
   NOTFOUND when they have to be made. */
static int use(lmdb_env *e, txn *t, int (*look)(txn *t, bool fresh)) {
  uint64_t last = txn_env_newest(e);
  bool fresh;
  int rc = t->write ? txn_take_turn(e) : 0;
  if (!rc)
    rc = mdb_txn_begin(e->mdb, NULL, t->write ? 0 : MDB_RDONLY, &t->mdb);
  if (rc) return rc;
  rc = look_for_astray(t, last);
  if (!rc) rc = open_root(t->mdb, &fresh);
  if (!rc && fresh && !t->write)
    rc = e->read_only ? MDB_INVALID : MDB_NOTFOUND;
  if (!rc) rc = open_tree(e, t->mdb, DB_META, fresh);
  if (!rc) rc = look_at(e, t, fresh, look);
  for (int i = DB_META + 1; i <= TREE_STATE && !rc; i++)
    rc = open_tree(e, t->mdb, i, fresh);
  return rc ? rc : open_recent(e, t);
}

static int try_databases(lmdb_env *e, bool write,
                         int (*look)(txn *t, bool fresh)) {
  txn t = {.env = e, .write = write};
  int rc = use(e, &t, look);
  if (rc) {
    txn_abort(&t);
    return rc;
  }
  rc = mdb_txn_commit(t.mdb);
  if (write) txn_end_turn(e);
  return rc;
}

/* A whole store is opened by a read, which waits for no writer. */
static int open_databases(lmdb_env *e, int (*look)(txn *t, bool fresh)) {
  int rc = try_databases(e, false, look);
  if (e->read_only) return rc;
  if (rc == MDB_NOTFOUND || rc == MDB_READERS_FULL || rc == UNTOLD)
    rc = try_databases(e, true, look);
  return rc ? rc : mdb_env_sync(e->mdb, 1);
}

/* Does the file hold every page that is in use? Free pages may rightly be
   missing at its end: a page that a commit took and freed again is not written.
   */
static int look_for_pages(lmdb_env *e) {
  pages p;
  int rc = pages_open(&p, e->dirfd, e->path);
  if (rc) return rc;
  bool whole = pages_whole(&p);
  rc = p.rc;
  pages_close(&p);
  if (rc) return fail(rc, "not enough memory to open a store");
  return whole ? 0 : fail(RESPOOL_CORRUPT, "store '%.120s' is cut off: its "
                          "file ends before its data; see respool repair",
                          e->path);
}

/* With a reader, so that no page of the last commit is used again. */
static int look_within(lmdb_env *e) {
  MDB_txn *reader;
  int rc = mdb_txn_begin(e->mdb, NULL, MDB_RDONLY, &reader);
  if (rc) return rc;
  e->look_rc = look_for_pages(e);
  mdb_txn_abort(reader);
  return e->look_rc ? LOOKED : 0;
}

/* In a file that was cut off, an access beyond its end would kill the process
   (SIGBUS). Never shortens a file that is growing. */
static int guard_end(lmdb_env *e) {
  MDB_envinfo info;
  MDB_stat st;
  struct stat file;
  mdb_filehandle_t fd;
  int rc = mdb_env_info(e->mdb, &info);
  if (!rc) rc = mdb_env_stat(e->mdb, &st);
  if (!rc) rc = mdb_env_get_fd(e->mdb, &fd);
  if (!rc && fstat(fd, &file)) rc = errno;
  if (rc) return rc;
  off_t end = (off_t)((info.me_last_pgno + 1) * st.ms_psize);
  if (file.st_size >= end) return 0;
  rc = look_within(e);
  if (!rc && !e->read_only)
    (void)!fallocate(fd, 0, file.st_size, end - file.st_size);
  return rc;
}

static int set_up(lmdb_env *e) {
  char place[PLACE_MAX];
  int rc = mdb_env_create(&e->mdb);
  if (!rc) rc = mdb_env_set_maxdbs(e->mdb, TREE_COUNT);
  if (!rc) rc = mdb_env_set_maxreaders(e->mdb, e->max_readers);
  if (!rc) rc = mdb_env_set_mapsize(e->mdb, e->map_size);
  dir_place(e->dirfd, e->path, place);
  if (!rc) rc = mdb_env_open(e->mdb, place, env_flags(e), FILE_MODE);
  return rc;
}

/* Halves the map where address space is scarce (ulimit -v, valgrind). */
static bool try_smaller(lmdb_env *e, int rc) {
  if ((rc != ENOMEM && rc != EINVAL) || e->map_size <= MAP_MIN) return false;
  txn_env_close(e);
  e->map_size /= 2;
  return true;
}

/* Without a map size of its own it has LMDB's small default map, which is
   enough to make a store. */
static int make(lmdb_env *e, const char *file,
                int (*look)(txn *t, bool fresh)) {
  unsigned flags = MDB_NOSUBDIR | MDB_NOLOCK | (e->unsynced ? MDB_NOSYNC : 0);
  char dir[PLACE_MAX], path[PLACE_MAX + 16];
  dir_place(e->dirfd, e->path, dir);
  snprintf(path, sizeof path, "%s/%.15s", dir, file);
  int rc = mdb_env_create(&e->mdb);
  if (!rc) rc = mdb_env_set_maxdbs(e->mdb, TREE_COUNT);
  if (!rc && e->map_size) rc = mdb_env_set_mapsize(e->mdb, e->map_size);
  if (!rc) rc = mdb_env_open(e->mdb, path, flags, FILE_MODE);
  return rc ? rc : open_databases(e, look);
}

static int make_fail(lmdb_env *e, int rc) {
  txn_env_close(e);
  if (rc == LOOKED) return e->look_rc;
  return txn_env_fail(e, "make", rc);
}

static int make_fitting(lmdb_env *e, const char *file,
                        int (*look)(txn *t, bool fresh)) {
  rights r;
  int rc;
  rights_take(e->dirfd, &r);
  do
    rc = make(e, file, look);
  while (try_smaller(e, rc));
  rights_return(&r);
  return rc ? make_fail(e, rc) : 0;
}

int txn_env_make(lmdb_env *e, const char *file,
                 int (*look)(txn *t, bool fresh)) {
  int rc = make_fitting(e, file, look);
  if (!rc) txn_env_close(e);
  return rc;
}

int txn_env_make_open(lmdb_env *e, const char *file,
                      int (*look)(txn *t, bool fresh)) {
  e->unsynced = true;
  return make_fitting(e, file, look);
}

/* Is there a meta page of LMDB's? Its magic number comes after its head, the
   page size six words later. */
static bool is_meta(int fd, off_t at, uint32_t *size) {
  uint32_t words[7];
  if (pread(fd, words, sizeof words, at + 16) != sizeof words) return false;
  *size = words[6];
  return words[0] == 0xbeefc0de;
}

/* Does the data file begin with two meta pages, as LMDB's do? */
static bool data_begins_well(const lmdb_env *e) {
  uint32_t size;
  int fd = file_open(e->dirfd, DATA_NAME, O_RDONLY);
  bool well = fd >= 0 && is_meta(fd, 0, &size) && is_meta(fd, size, &size);
  if (fd >= 0) close(fd);
  return well;
}

/* Does the last commit say of a page far behind the end of the file that it is
   in use? LMDB would map all up to there. */
static bool is_endless(const lmdb_env *e) {
  pages p;
  if (pages_open(&p, e->dirfd, e->path)) return false;
  bool endless = p.last > p.n && p.last - p.n > MAP_MIN / p.size;
  pages_close(&p);
  return endless;
}

/* Closes the environment and reports why it could not be opened. */
static int open_fail(lmdb_env *e, int rc) {
  txn_env_close(e);
  if (rc == LOOKED) return e->look_rc;
  if (rc == LOCK_STALE) return rc;
  if (rc == TURN_REFUSED) return RESPOOL_LOCKED;
  if (rc == EACCES) return files_explain(e);
  if (rc == MDB_INVALID || rc == MDB_VERSION_MISMATCH)
    return fail(RESPOOL_VERSION, "'%.160s' holds data that is not a "
                "respool store", e->path);
  if ((rc == ENOMEM || rc == EINVAL) && is_endless(e))
    return fail(RESPOOL_CORRUPT, "store '%.120s' is damaged: a page that "
                "begins its data cannot be right; see respool repair",
                e->path);
  return txn_env_fail(e, "open", rc);
}

int txn_env_open(lmdb_env *e) {
  rights r;
  int rc = files_prepare(e);
  if (rc) return rc;
  rights_take(e->dirfd, &r);
  do
    rc = set_up(e);
  while (try_smaller(e, rc));
  rights_return(&r);
  files_note(e);
  if (rc == MDB_INVALID && data_begins_well(e))
    rc = LOCK_STALE; /* the lock file is invalid, not the data */
  return rc ? open_fail(e, rc) : 0;
}

int txn_env_use(lmdb_env *e, int (*look)(txn *t, bool fresh)) {
  int rc = mdb_reader_check(e->mdb, NULL);
  if (!rc) rc = guard_end(e);
  if (!rc) rc = open_databases(e, look);
  if (rc == EINVAL) rc = LOCK_STALE; /* its mutexes are not initialised */
  return rc ? open_fail(e, rc) : 0;
}

void txn_env_close(lmdb_env *e) {
  e->disk_end = 0;
  turn_close(&e->turn);
  if (e->mdb) mdb_env_close(e->mdb);
  e->mdb = NULL;
}

int txn_env_open_alone(lmdb_env *e) {
  rights r;
  char place[PLACE_MAX];
  dir_place(e->dirfd, e->path, place);
  rights_take(e->dirfd, &r);
  int rc = mdb_env_create(&e->mdb);
  if (!rc) rc = mdb_env_open(e->mdb, place, MDB_RDONLY | MDB_NOLOCK, 0);
  rights_return(&r);
  if (!rc) return 0;
  txn_env_close(e);
  return txn_env_fail(e, "open", rc);
}

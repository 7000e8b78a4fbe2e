/* SPDX-License-Identifier: MIT */
/*
 * Compaction: writes the data file anew without its free pages, in its place
 * or to another directory.
 *
 * In its place it is alone with the store, so the copy is complete.
 */
#include "lmdb/repair/compact.h"

#include "base/file.h"
#include "lmdb/env/create.h"
#include "lmdb/env/directory.h"
#include "lmdb/env/env.h"
#include "lmdb/env/open.h"
#include "lmdb/env/registry.h"
#include "lmdb/env/replacement.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#define JOURNAL_NAME "journal"
#define NEW_NAME "compact.mdb" /* of the file until it is whole */

/* ---- in its place ------------------------------------------------------- */

static int fill_alone(const replacement *c) {
  lmdb_env e = {.path = (char *)(uintptr_t)c->dir, .dirfd = c->dirfd};
  int rc = txn_env_open_alone(&e);
  if (rc) return rc;
  rc = txn_env_copy(&e, c->fd);
  txn_env_close(&e);
  return rc;
}

static int replace(const char *path, int dirfd, void *arg) {
  respool_compaction *out = arg, done = *out;
  struct stat old;
  int rc = data_look(path, dirfd, &old);
  if (rc) return rc;
  replacement c = {path, NEW_NAME, dirfd, -1};
  rc = replacement_open(&c, &old);
  if (!rc) rc = fill_alone(&c);
  if (!rc) rc = replacement_publish(&c, &done.after);
  replacement_close(&c, !rc);
  if (rc) return rc;
  done.before = (uint64_t)old.st_size;
  *out = done;
  return 0;
}

/* ---- to another directory ----------------------------------------------- */

static int fill_from(const replacement *c, env *from) {
  txn *t;
  int rc = env_begin(from, false, &t);
  if (rc) return rc;
  rc = txn_env_copy((lmdb_env *)from, c->fd);
  txn_abort(t);
  env_end(t);
  return rc;
}

static int copy_whole(int from, int to) {
  char bytes[65536];
  ssize_t n;
  while ((n = read(from, bytes, sizeof bytes)) > 0) {
    errno = EIO; /* of a short write */
    if (write(to, bytes, (size_t)n) != n) return errno;
  }
  return n < 0 || fsync(to) ? errno : 0;
}

/* Ensures: an item whose push had returned lies in this copy, or in that of the
   data, which is made later. */
static int copy_journal(int from, const replacement *data,
                        const struct stat *old) {
  static const char what[] = "copy the journal to";
  int fd = file_open(from, JOURNAL_NAME, O_RDONLY);
  if (fd < 0)
    return errno == ENOENT ? 0 : replacement_fail(data->dir, what, errno);
  replacement c = {data->dir, JOURNAL_NAME, data->dirfd, -1};
  int rc = replacement_open(&c, old), error = rc ? 0 : copy_whole(fd, c.fd);
  if (error) rc = replacement_fail(c.dir, what, error);
  replacement_close(&c, !rc);
  close(fd);
  return rc;
}

/* With the directory `to` locked, so that no process makes a store there. */
static int fill_dir(env *from, const char *to, int dirfd,
                    const struct stat *old, respool_compaction *out) {
  respool_compaction done = *out;
  int error = dir_look(dirfd);
  if (!error || error == ENODATA)
    return fail(RESPOOL_EXISTS, "there is a store in '%.160s' already", to);
  if (error != ENOENT) return replacement_fail(to, "write a store to", error);
  replacement c = {to, NEW_NAME, dirfd, -1};
  int rc = replacement_open(&c, old);
  if (!rc) rc = copy_journal(((lmdb_env *)from)->dirfd, &c, old);
  if (!rc) rc = fill_from(&c, from);
  if (!rc) rc = replacement_publish(&c, &done.after);
  replacement_close(&c, !rc);
  if (rc) {
    (void)unlinkat(dirfd, JOURNAL_NAME, 0);
    return rc;
  }
  done.before = (uint64_t)old->st_size;
  *out = done;
  return 0;
}

static int compact_into(env *from, const char *path, const char *to,
                        respool_compaction *out) {
  int dirfd;
  struct stat old;
  int rc = data_look(path, ((lmdb_env *)from)->dirfd, &old);
  if (!rc) rc = dir_make(to, old.st_mode);
  if (!rc) rc = dir_open(to, true, &dirfd);
  if (rc) return rc;
  rc = dir_lock(dirfd, to, LOCK_EX | LOCK_NB);
  if (!rc) {
    rc = fill_dir(from, to, dirfd, &old, out);
    dir_unlock(dirfd);
  }
  close(dirfd);
  return rc;
}

static int compact_to(const char *path, const char *to,
                      respool_compaction *out) {
  respool_options o = RESPOOL_OPTIONS_INIT;
  env *from;
  o.read_only = 1;
  int rc = env_open(NULL, NULL, path, &o, NULL, &from);
  if (rc) return rc == FORMAT_OLD ? RESPOOL_VERSION : rc;
  rc = compact_into(from, path, to, out);
  env_close(from);
  return rc;
}

int lmdb_compact(const char *path, const char *to, respool_compaction *out) {
  return to ? compact_to(path, to, out) : store_alone(path, replace, out);
}

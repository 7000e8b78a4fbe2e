/* SPDX-License-Identifier: MIT */
/*
 * Making a new store: its data file is made under another name and renamed
 * once it is complete and on disk. The format version tells a store from
 * another program's LMDB.
 */
#include "lmdb/env/create.h"

#include "lmdb/env/directory.h"
#include "lmdb/env/open.h"

#include "base/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <unistd.h>

#define FILE_MODE 0640

static const respool_bytes format_name = {"format", 6};
static const respool_bytes id_name = {"store", 5};

/* A new store gets its format version and an id of its own. */
static int write_format(txn *t) {
  uint8_t id[16];
  packer p;
  packer_init(&p);
  if (getrandom(id, sizeof id, 0) != sizeof id) txn_fail(t, RESPOOL_IO);
  pack_uint(&p, FORMAT_VERSION);
  txn_put_packed(t, DB_META, format_name, &p);
  packer_reset(&p);
  pack_bytes(&p, id, sizeof id);
  txn_put_packed(t, DB_META, id_name, &p);
  packer_free(&p);
  return t->rc;
}

static int foreign(const lmdb_env *e) {
  return fail(RESPOOL_VERSION, "\"%.160s\" holds data that is not a respool "
              "store", e->path);
}

int format_check(txn *t, bool fresh) {
  respool_bytes v;
  unpacker u;
  if (fresh) return write_format(t);
  if (!txn_get(t, DB_META, format_name, &v))
    return t->rc ? t->rc : foreign(t->env);
  unpacker_init(&u, v.data, v.size);
  uint64_t format = unpack_uint(&u);
  if (u.rc) return foreign(t->env);
  if (format <= FORMAT_VERSION) return 0;
  return fail(RESPOOL_VERSION, "store \"%.120s\" has format %llu; this "
              "program knows up to %d", t->env->path,
              (unsigned long long)format, FORMAT_VERSION);
}

/* Opens a file, made when missing, and waits for its lock. */
static int lock_file(const char *path) {
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, FILE_MODE);
  while (fd >= 0 && flock(fd, LOCK_EX) && errno == EINTR)
    ;
  return fd;
}

/* With the file `made` locked. Another process may have renamed its own to
   `data` by now: then the file `made` is a leftover. */
static int make_file(lmdb_env *e, const char *made, const char *data) {
  if (dir_look(e->path) != ENOENT) {
    unlink(made);
    return 0;
  }
  if (truncate(made, 0)) return dir_fail(e->path, errno);
  int rc = txn_env_make(e, made, format_check);
  FAULT_POINT("made");
  if (!rc && rename(made, data)) rc = dir_fail(e->path, errno);
  return rc;
}

/* Makes the file of a new store under another name, and renames it when it is
   complete and on disk: a crash, a power cut or a full disk leaves no store,
   and the next process starts over. One process at a time. */
int store_make(lmdb_env *e) {
  char *made = dir_file(e->path, "data.mdb.new");
  char *data = dir_file(e->path, "data.mdb");
  int fd = made && data ? lock_file(made) : -1, rc;
  if (!made || !data)
    rc = fail(RESPOOL_NOMEM, "not enough memory to open a store");
  else
    rc = fd < 0 ? dir_fail(e->path, errno) : make_file(e, made, data);
  if (fd >= 0) close(fd);
  free(made);
  free(data);
  return rc;
}

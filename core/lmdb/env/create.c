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
#include "base/file.h"

#include <errno.h>
#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>

#define MADE_NAME "data.mdb.new"

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
  return fail(RESPOOL_VERSION, "'%.160s' holds data that is not a respool "
              "store", e->path);
}

static int old(const lmdb_env *e, uint64_t format) {
  fail(RESPOOL_VERSION, "store '%.120s' has format %llu: open it for writing, "
       "as respool maintain does, which migrates it to format %d", e->path,
       (unsigned long long)format, FORMAT_VERSION);
  return FORMAT_OLD;
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
  if (format == FORMAT_VERSION) return 0;
  if (format < FORMAT_VERSION) return old(t->env, format);
  return fail(RESPOOL_VERSION, "store '%.120s' has format %llu; this "
              "program knows up to %d", t->env->path,
              (unsigned long long)format, FORMAT_VERSION);
}

/* Makes the file of a new store under another name, and renames it when it is
   complete and on disk: a crash, a power cut or a full disk leaves no store,
   and the next process starts over. The caller has locked the directory. */
int store_make(lmdb_env *e) {
  (void)unlinkat(e->dirfd, MADE_NAME, 0); /* a leftover */
  int fd = file_make(e->dirfd, MADE_NAME, FILE_MODE);
  if (fd < 0) return dir_fail(e->path, errno);
  close(fd);
  int rc = txn_env_make(e, MADE_NAME, format_check);
  FAULT_POINT("made");
  if (!rc && renameat(e->dirfd, MADE_NAME, e->dirfd, DATA_NAME))
    rc = dir_fail(e->path, errno);
  if (rc) (void)unlinkat(e->dirfd, MADE_NAME, 0);
  return rc;
}

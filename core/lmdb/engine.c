/* SPDX-License-Identifier: MIT */
/*
 * The embedded engine, as engine.h wants it.
 */
#include "lmdb/lmdb.h"

#include "lmdb/apply.h"
#include "lmdb/beside.h"
#include "lmdb/env/create.h"
#include "lmdb/env/registry.h"
#include "lmdb/look.h"
#include "lmdb/maintain.h"
#include "lmdb/migrate/migrate.h"
#include "lmdb/repair/compact.h"
#include "lmdb/repair/repair.h"

static int open(const char *path, const respool_options *o,
                int (*first)(env *e), env **e) {
  int rc = env_open(&engine_lmdb, &lmdb_beside, path, o, first, e);
  if (rc == FORMAT_OLD && !o->read_only) {
    rc = lmdb_migrate(path);
    if (!rc) rc = env_open(&engine_lmdb, &lmdb_beside, path, o, first, e);
  }
  return rc == FORMAT_OLD ? RESPOOL_VERSION : rc;
}

const engine engine_lmdb = {
  .waits_for_others = true,
  .open = open,
  .close = env_close,
  .apply = lmdb_apply,
  .look = lmdb_look,
  .wait = lmdb_wait,
  .flush = lmdb_flush,
  .maintain = lmdb_free_readers,
  .compact = lmdb_compact,
  .repair = lmdb_repair,
};

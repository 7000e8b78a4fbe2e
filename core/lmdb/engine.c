/* SPDX-License-Identifier: MIT */
/*
 * The embedded engine's face at the seam.
 */
#include "lmdb/lmdb.h"

#include "lmdb/apply.h"
#include "lmdb/look.h"
#include "lmdb/env/env.h"
#include "lmdb/maintain.h"
#include "lmdb/repair/compact.h"
#include "lmdb/repair/repair.h"

static int open(const char *path, const respool_options *o,
                int (*first)(env *e), env **e) {
  return env_open(&engine_lmdb, path, o, first, e);
}

const engine engine_lmdb = {
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

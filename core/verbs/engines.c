/* SPDX-License-Identifier: MIT */
/*
 * Which engine a path means. No other file of the verbs names an engine.
 */
#include "verbs/engines.h"

#include "lmdb/lmdb.h"
#include "postgres/postgres.h"

/* A URL, else a directory or ":memory:". */
const engine *engine_of(const char *path) {
  return postgres_is(path) ? &engine_postgres : &engine_lmdb;
}

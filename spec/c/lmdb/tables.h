/* SPDX-License-Identifier: MIT */
/*
 * The tables that share the database "state", as doc/format.md numbers them:
 * there the keys of a table's records begin with its number. What changed
 * lately lies over it, in the database "recent".
 */
#ifndef SPEC_TABLES_H
#define SPEC_TABLES_H

#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const state_tables[] = {
  [5] = "queues", "dlqs", "replays", "notes", "remaining", "claims", "due",
  "expiries", "keys", "windows", "entries", "partitions", "partition_items",
  "turns", "partition_due", "lones",
};
#define STATE_FIRST 5
#define STATE_END (int)(sizeof state_tables / sizeof *state_tables)

/* The number of a table in "state"; 0: it is a database of its own. */
static inline int table_number(const char *name) {
  for (int i = STATE_FIRST; i < STATE_END; i++)
    if (!strcmp(name, state_tables[i])) return i;
  return 0;
}

static inline void must(int rc, const char *what) {
  if (!rc) return;
  fprintf(stderr, "%s: %s\n", what, mdb_strerror(rc));
  exit(EXIT_FAILURE);
}

/* Moves all records of "recent" to "state", as a commit may. Stores of older
   builds, and of other programs, have no such database. */
static inline void fold_recent(MDB_txn *t) {
  MDB_dbi from, to;
  MDB_cursor *c;
  MDB_val k, v;
  if (mdb_dbi_open(t, "recent", 0, &from) == MDB_NOTFOUND) return;
  must(mdb_dbi_open(t, "state", 0, &to), "state");
  must(mdb_cursor_open(t, from, &c), "recent");
  while (mdb_cursor_get(c, &k, &v, MDB_NEXT) == 0) {
    int gone = v.mv_size == 1 && *(unsigned char *)v.mv_data == 0xf7;
    int rc = gone ? mdb_del(t, to, &k, NULL) : mdb_put(t, to, &k, &v, 0);
    must(rc == MDB_NOTFOUND ? 0 : rc, "fold");
  }
  mdb_cursor_close(c);
  must(mdb_drop(t, from, 0), "drop");
}

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Prints what a store holds, with nothing but LMDB: for each record of each
 * table a line of name, key, value, and the checksum that it should have ("-"
 * where there is none), all but the name in hex. A table also has a line with
 * its name alone.
 */
#include <xxhash.h>

#include "tables.h"

#define SUMMED_FROM 10

static void print_hex(MDB_val v) {
  const unsigned char *b = v.mv_data;
  for (size_t i = 0; i < v.mv_size; i++) printf("%02x", b[i]);
}

static void print_sum(MDB_val k, MDB_val v) {
  const char *b = v.mv_data;
  if (v.mv_size <= SUMMED_FROM)
    printf("-\n");
  else
    printf("%016llx\n", (unsigned long long)
           XXH3_64bits_withSeed(b + SUMMED_FROM, v.mv_size - SUMMED_FROM,
                                XXH3_64bits(k.mv_data, k.mv_size)));
}

/* The table of a record of "state"; its key there becomes `*k`. */
static const char *table_of(MDB_val *k) {
  const unsigned char *b = k->mv_data;
  if (k->mv_size == 0 || b[0] < STATE_FIRST || b[0] >= STATE_END)
    return "unknown";
  *k = (MDB_val){k->mv_size - 1, (void *)(size_t)(b + 1)};
  return state_tables[b[0]];
}

static void print_entries(MDB_cursor *c, const char *database) {
  MDB_val k, v;
  int shared = !strcmp(database, "state");
  while (mdb_cursor_get(c, &k, &v, MDB_NEXT) == 0) {
    MDB_val own = k;
    printf("%s ", shared ? table_of(&own) : database);
    print_hex(own);
    printf(" ");
    print_hex(v);
    printf(" ");
    print_sum(k, v);
  }
}

static void print_names(const char *database) {
  if (!strcmp(database, "recent")) return; /* empty by now */
  if (strcmp(database, "state")) {
    printf("%s\n", database);
    return;
  }
  for (int i = STATE_FIRST; i < STATE_END; i++)
    printf("%s\n", state_tables[i]);
}

static void print_database(MDB_txn *t, const char *name) {
  MDB_dbi db;
  MDB_cursor *c;
  must(mdb_dbi_open(t, name, 0, &db), name);
  must(mdb_cursor_open(t, db, &c), name);
  print_names(name);
  print_entries(c, name);
  mdb_cursor_close(c);
}

/* LMDB's unnamed database holds the names of the others. */
static void print_databases(MDB_txn *t) {
  MDB_dbi root;
  MDB_cursor *c;
  MDB_val k, v;
  char name[256];
  must(mdb_dbi_open(t, NULL, 0, &root), "root");
  must(mdb_cursor_open(t, root, &c), "root");
  while (mdb_cursor_get(c, &k, &v, MDB_NEXT) == 0) {
    snprintf(name, sizeof name, "%.*s", (int)k.mv_size,
             (const char *)k.mv_data);
    print_database(t, name);
  }
  mdb_cursor_close(c);
}

int main(int argc, char **argv) {
  MDB_env *e;
  MDB_txn *t;
  if (argc != 2) {
    fprintf(stderr, "usage: dump STORE\n");
    return EXIT_FAILURE;
  }
  must(mdb_env_create(&e), "create");
  must(mdb_env_set_maxdbs(e, 32), "maxdbs");
  must(mdb_env_open(e, argv[1], 0, 0640), argv[1]);
  must(mdb_txn_begin(e, NULL, 0, &t), "begin");
  fold_recent(t); /* not for good */
  print_databases(t);
  mdb_txn_abort(t);
  mdb_env_close(e);
  return EXIT_SUCCESS;
}

/* SPDX-License-Identifier: MIT */
/*
 * Damages a store, or makes what is none, with nothing but LMDB:
 *
 *   damage STORE flip DB N OFFSET   inverts a byte of the N-th value (from
 *                                   0) of a table; a negative OFFSET counts
 *                                   from the end
 *   damage STORE rekey DB N OFFSET  the same of the key
 *   damage STORE put DB KEY HEX     stores a value under a key of text
 *   damage STORE del DB N           removes the N-th entry
 *   damage STORE older state        as a build without "recent" left it
 *   damage DIR foreign DB           another program's environment, with a
 *                                   database of its own
 *
 * Tables may also be named "state" or "recent", as they lie there. Exits with 0
 * when that was done.
 */
#include "tables.h"

static unsigned char number; /* of the table, if it lies in "state" */

static void go_to(MDB_cursor *c, long n, MDB_val *k, MDB_val *v) {
  *k = (MDB_val){1, &number};
  must(mdb_cursor_get(c, k, v, number ? MDB_SET_RANGE : MDB_FIRST), "first");
  while (n-- > 0) must(mdb_cursor_get(c, k, v, MDB_NEXT), "next");
}

static MDB_val copy_of(MDB_val v) {
  MDB_val copy = {v.mv_size, malloc(v.mv_size)};
  if (!copy.mv_data) exit(EXIT_FAILURE);
  memcpy(copy.mv_data, v.mv_data, v.mv_size);
  return copy;
}

static void invert(MDB_val v, long offset) {
  size_t at = offset < 0 ? v.mv_size - (size_t)-offset : (size_t)offset;
  if (at >= v.mv_size) must(MDB_BAD_VALSIZE, "offset");
  ((unsigned char *)v.mv_data)[at] ^= 0xff;
}

static void flip(MDB_cursor *c, long n, long offset) {
  MDB_val k, v;
  go_to(c, n, &k, &v);
  v = copy_of(v);
  invert(v, offset);
  must(mdb_cursor_put(c, &k, &v, MDB_CURRENT), "flip");
  free(v.mv_data);
}

static void rekey(MDB_cursor *c, long n, long offset) {
  MDB_val k, v;
  go_to(c, n, &k, &v);
  k = copy_of(k);
  v = copy_of(v);
  must(mdb_cursor_del(c, 0), "del");
  invert(k, number && offset >= 0 ? offset + 1 : offset);
  must(mdb_cursor_put(c, &k, &v, 0), "rekey");
  free(k.mv_data);
  free(v.mv_data);
}

static void put(MDB_cursor *c, const char *key, const char *hex) {
  char in[512] = {(char)number};
  snprintf(in + !!number, sizeof in - 1, "%s", key);
  MDB_val k = {strlen(key) + !!number, in}, v = {strlen(hex) / 2, NULL};
  must(mdb_cursor_put(c, &k, &v, MDB_RESERVE), "put");
  for (size_t i = 0; i < v.mv_size; i++) {
    char digits[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
    ((char *)v.mv_data)[i] = (char)strtol(digits, NULL, 16);
  }
}

static void make_older(MDB_txn *t) {
  MDB_dbi recent;
  fold_recent(t);
  must(mdb_dbi_open(t, "recent", 0, &recent), "recent");
  must(mdb_drop(t, recent, 1), "drop");
}

static void del(MDB_cursor *c, long n) {
  MDB_val k, v;
  go_to(c, n, &k, &v);
  must(mdb_cursor_del(c, 0), "del");
}

/* The argument at `i`, of a command that has so many. */
static const char *argument(char **argv, int argc, int i) {
  if (i < argc) return argv[i];
  fprintf(stderr, "usage: see spec/c/lmdb/damage.c\n");
  exit(EXIT_FAILURE);
}

static void run(MDB_cursor *c, int argc, char **argv) {
  const char *command = argv[2], *what = argument(argv, argc, 4);
  if (!strcmp(command, "flip"))
    flip(c, atol(what), atol(argument(argv, argc, 5)));
  else if (!strcmp(command, "rekey"))
    rekey(c, atol(what), atol(argument(argv, argc, 5)));
  else if (!strcmp(command, "put"))
    put(c, what, argument(argv, argc, 5));
  else
    del(c, atol(what));
}

int main(int argc, char **argv) {
  MDB_env *e;
  MDB_txn *t;
  MDB_dbi db;
  MDB_cursor *c;
  const char *name = argument(argv, argc, 3);
  int foreign = !strcmp(argv[2], "foreign");
  int older = !strcmp(argv[2], "older");
  must(mdb_env_create(&e), "create");
  must(mdb_env_set_maxdbs(e, 32), "maxdbs");
  must(mdb_env_open(e, argv[1], 0, 0640), argv[1]);
  must(mdb_txn_begin(e, NULL, 0, &t), "begin");
  number = (unsigned char)table_number(name);
  if (number) fold_recent(t);
  must(mdb_dbi_open(t, number ? "state" : name, foreign ? MDB_CREATE : 0, &db),
       name);
  must(mdb_cursor_open(t, db, &c), name);
  if (foreign)
    put(c, "theirs", "00ff");
  else if (!older)
    run(c, argc, argv);
  mdb_cursor_close(c);
  if (older) make_older(t);
  must(mdb_txn_commit(t), "commit");
  mdb_env_close(e);
  return EXIT_SUCCESS;
}

/* SPDX-License-Identifier: MIT */
/*
 * reader STORE: holds a reader open, with nothing but LMDB, as a process does
 * that is stopped while it looks: the pages that it may see are not used
 * again. Says "reading" and goes on until it is ended.
 */
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void must(int rc) {
  if (!rc) return;
  fprintf(stderr, "%s\n", mdb_strerror(rc));
  exit(EXIT_FAILURE);
}

int main(int argc, char **argv) {
  MDB_env *e;
  MDB_txn *t;
  if (argc != 2) return EXIT_FAILURE;
  must(mdb_env_create(&e));
  must(mdb_env_set_mapsize(e, (size_t)1 << 36));
  must(mdb_env_open(e, argv[1], MDB_RDONLY, 0640));
  must(mdb_txn_begin(e, NULL, MDB_RDONLY, &t));
  puts("reading");
  fflush(stdout);
  for (;;) pause();
}

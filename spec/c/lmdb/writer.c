/* SPDX-License-Identifier: MIT */
/*
 * Another process that holds the writer lock of a store, from when it says
 * "held" until a file is there, but not for ever.
 */
#include "../holds.h"
#include "lmdb/unit/unit.h"
#include "verbs/store/store.h"

int main(int argc, char **argv) {
  respool *s = NULL;
  txn *t = NULL;
  if (argc != 3) return EXIT_FAILURE;
  WORKS(respool_open(argv[1], NULL, &s));
  if (s) WORKS(unit_begin(s->env, true, &t));
  puts(t ? "held" : "not held");
  fflush(stdout);
  alarm(600);
  while (s && access(argv[2], F_OK)) respool_sleep(s, 1);
  if (t) unit_abort(t);
  respool_close(s);
  return exit_status();
}

/* SPDX-License-Identifier: MIT */
/*
 * migration STORE CALLS: opens a store for writing, and says what it is told
 * meanwhile of whom it waits for, a line each time; at call number CALLS it
 * gives up. Ends with the code of the open.
 */
#include <stdio.h>
#include <stdlib.h>

#include "respool.h"

static int left;

static int say(void *arg, int64_t ms, const char *whom) {
  (void)arg;
  if (ms == 0) return 0;
  printf("%s\n", whom);
  return --left == 0;
}

int main(int argc, char **argv) {
  respool *s = NULL;
  if (argc != 3) return EXIT_FAILURE;
  left = atoi(argv[2]);
  respool_on_wait(say, NULL);
  int rc = respool_open(argv[1], NULL, &s);
  printf("%s: %s\n", rc ? respool_errname(rc) : "open",
         rc ? respool_error_text() : "");
  if (!rc) respool_close(s);
  return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}

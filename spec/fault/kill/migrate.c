/* SPDX-License-Identifier: MIT */
/*
 * Opens a store for writing, which migrates it, and is killed on the way:
 *
 *   migrate STORE POINT PASSES [RULE]
 *
 * at that point (see points.c), after it was passed so many times; RULE is
 * broken meanwhile. Ends with 0 when the point was not passed so often.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../points.h"
#include "respool.h"

int main(int argc, char **argv) {
  respool *s;
  if (argc < 4) {
    fprintf(stderr, "usage: migrate STORE POINT PASSES [RULE]\n");
    return 2;
  }
  point_break(argc > 4 ? argv[4] : NULL);
  point_arm_name(argv[2], atoi(argv[3]));
  int rc = respool_open(argv[1], NULL, &s);
  if (rc) {
    fprintf(stderr, "%s\n", respool_error_text());
    return 1;
  }
  respool_close(s);
  return 0;
}

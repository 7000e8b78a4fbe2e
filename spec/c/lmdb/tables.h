/* SPDX-License-Identifier: MIT */
/*
 * The tables that share the database "state", as doc/format.md numbers them:
 * there the keys of a table's records begin with its number.
 */
#ifndef SPEC_TABLES_H
#define SPEC_TABLES_H

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

#endif

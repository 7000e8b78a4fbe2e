/* SPDX-License-Identifier: MIT */
/*
 * Verbs on stores in files, by their path: repair and compaction.
 */
#include <string.h>

#include "verbs/engines.h"

/* Without the path: it may be a URL with a password. */
static int not_in_files(const char *verb) {
  return fail(RESPOOL_INVALID, "the store is not in files of its own: "
              "there is nothing to %s", verb);
}

int respool_repair(const char *from, const char *to, respool_finding_fn each,
                   void *arg, respool_salvage *out) {
  if (!from || !*from) return invalid("from", "a directory's name");
  if (!to || !*to || !strcmp(to, ":memory:"))
    return invalid("to", "a directory's name");
  if (!out) return invalid("out", "given");
  int rc = SIZE_CHECK(out, RESPOOL_SALVAGE_INIT);
  if (rc) return rc;
  const engine *g = engine_of(from);
  if (!g->repair) return not_in_files("repair");
  respool_salvage counts = RESPOOL_SALVAGE_INIT;
  rc = g->repair(from, to, each, arg, &counts);
  if (!rc) *out = counts;
  return rc;
}

int respool_compact(const char *path, const char *to,
                    respool_compaction *out) {
  if (!path || !*path || !strcmp(path, ":memory:"))
    return invalid("path", "a directory's name");
  if (to && (!*to || !strcmp(to, ":memory:")))
    return invalid("to", "a directory's name");
  int rc = SIZE_CHECK(out, RESPOOL_COMPACTION_INIT);
  if (rc) return rc;
  const engine *g = engine_of(path);
  return g->compact ? g->compact(path, to, out)
                    : not_in_files("compact");
}

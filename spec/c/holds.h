/* SPDX-License-Identifier: MIT */
/*
 * What the C programs of the specs share. A program is a list of checks; each
 * writes a line, "holds: ..." or "WRONG: ...". HOLDS says on stdout what does
 * not hold, from any thread.
 */
#ifndef HOLDS_H
#define HOLDS_H

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../helper/store_files.h"
#include "respool.h"

/* Weak: one for all files of a program. */
__attribute__((weak)) atomic_int wrong;

#define HOLDS(x) ((x) ? (void)0 : holds_not(#x, __FILE__, __LINE__))

/* A call that must succeed; what failed is said in its own words. */
#define WORKS(call) \
  ((call) == 0 ? (void)0 : (holds_not(#call, __FILE__, __LINE__), \
                            (void)printf("  %s\n", respool_error_text())))

static inline void holds_not(const char *what, const char *file, int line) {
  wrong++;
  printf("%s:%d: not so: %s\n", file, line, what);
}

/* Runs a check, which is a call of a function that is named by what holds. */
#define CHECK(call) do { \
    int before_ = wrong; \
    call; \
    checked(#call, wrong == before_); \
  } while (0)

static inline void checked(const char *call, int well) {
  char text[120];
  size_t n = strcspn(call, "(");
  snprintf(text, sizeof text, "%.*s", (int)n, call);
  for (char *c = text; *c; c++)
    if (*c == '_') *c = ' ';
  printf("%s: %s\n", well ? "holds" : "WRONG", text);
}

static inline int exit_status(void) {
  return wrong ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* A fresh directory for a store. */
static inline char *fresh_dir(void) {
  static char dir[4096];
  const char *tmp = getenv("TMPDIR");
  snprintf(dir, sizeof dir, "%s/respool-spec.XXXXXX", tmp ? tmp : "/tmp");
  if (mkdtemp(dir)) return dir;
  perror(dir);
  exit(EXIT_FAILURE);
}

static inline void remove_dir(const char *dir) {
  remove_store_files(dir);
  rmdir(dir);
}

static inline int no_finding(void *arg, const char *finding) {
  (void)arg;
  printf("check: %s\n", finding);
  wrong++;
  return 0;
}

#endif

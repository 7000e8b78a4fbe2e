/* SPDX-License-Identifier: MIT */
/*
 * Loading of libpq. It is never unloaded: connections may outlive a store.
 */
#include "postgres/client/libpq.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

#include "base/error.h"

#define LIBPQ_FILE "libpq.so.5"
#define LIBPQ_VERSION 140000 /* has pipelines */

struct libpq pq;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static char reason[FAIL_LINE]; /* why it could not be loaded; "": it was */

static void say(const char *text) {
  strncpy(reason, text, sizeof reason - 1);
}

/* A pointer to a function out of one to data, as POSIX has it. */
static int find(void *library, const char *name, void *member) {
  void *symbol = dlsym(library, name);
  if (!symbol) say(LIBPQ_FILE " is older than 14: it has no pipelines");
  memcpy(member, &symbol, sizeof symbol);
  return symbol != NULL;
}

static void load(void) {
  void *library = dlopen(LIBPQ_FILE, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    say(dlerror());
    return;
  }
#define FIND(result, name, args) \
  if (!find(library, "PQ" #name, &pq.name)) return;
  LIBPQ(FIND)
#undef FIND
  if (pq.libVersion() < LIBPQ_VERSION) say(LIBPQ_FILE " is older than 14");
}

int libpq_load(void) {
  pthread_once(&once, load);
  if (!*reason) return 0;
  return fail(RESPOOL_INVALID, "a store in PostgreSQL needs libpq: %s",
              reason);
}

/* SPDX-License-Identifier: MIT */
/*
 * Opening and closing of environments; see open.h.
 */
#include "postgres/env/open.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "postgres/env/bells.h"
#include "postgres/env/known.h"
#include "postgres/env/schema.h"

#define OPEN_PATIENCE 3000 /* ms at most to reach a server when a store is
                              opened */

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static pg_env *registry;

static void free_env(pg_env *e) {
  if (e->bells) bells_close(e->bells);
  pg_sessions_close(e);
  known_free(e);
  url_free(&e->url);
  pthread_mutex_destroy(&e->lock);
  pthread_cond_destroy(&e->given_back);
  free(e->path);
  free(e);
}

static int find_schema(pg_env *e, bool may_make) {
  int rc = schema_check(&e->writer);
  if (rc != RESPOOL_NOT_FOUND || !may_make) return rc;
  rc = schema_make(&e->writer);
  if (rc == RESPOOL_DENIED)
    return fail(rc, "there is no store in %.120s, and this role may not make "
                "one: `respool init`, by one that may, does", e->url.shown);
  return rc ? rc : schema_check(&e->writer);
}

static int env_start(pg_env *e, const respool_options *o) {
  int rc = url_parse(e->path, &e->url);
  if (rc) return rc;
  if (o->read_only && !(rc = url_any_server(&e->url))) e->read_only = true;
  e->prepare = e->url.prepare;
  random_init(&e->chance, 0);
  session_init(&e->writer, &e->url, &e->prepare, &e->chance);
  if (e->url.patience > OPEN_PATIENCE) e->writer.patience = OPEN_PATIENCE;
  if (!rc) rc = find_schema(e, !o->no_create && !o->read_only);
  e->writer.patience = e->url.patience;
  return rc ? rc : bells_open(e, &e->bells);
}

static pg_env *env_new(const engine *g, const char *path) {
  pg_env *e = calloc(1, sizeof *e);
  if (!e) return NULL;
  e->base.engine = g;
  e->base.pid = getpid();
  e->path = strdup(path);
  e->refs = 1;
  pthread_mutex_init(&e->lock, NULL);
  pthread_cond_init(&e->given_back, NULL);
  if (e->path) return e;
  free_env(e);
  return NULL;
}

/* Those of a parent process are its own. */
static pg_env *registry_find(const char *path, bool read_only) {
  for (pg_env *e = registry; e; e = e->next)
    if (e->base.pid == getpid() && e->read_only == read_only &&
        !strcmp(e->path, path))
      return e;
  return NULL;
}

static int registry_add(const engine *g, const char *path,
                        const respool_options *o, int (*first)(env *e),
                        env **out) {
  pg_env *e = env_new(g, path);
  if (!e) return fail(RESPOOL_NOMEM, "not enough memory for a store");
  int rc = env_start(e, o);
  if (!rc) rc = first(&e->base);
  if (rc) {
    free_env(e);
    return rc;
  }
  e->next = registry;
  registry = e;
  *out = &e->base;
  return 0;
}

int pg_env_open(const engine *g, const char *path, const respool_options *o,
                int (*first)(env *e), env **out) {
  int rc = 0;
  pthread_mutex_lock(&registry_lock);
  pg_env *e = registry_find(path, o->read_only);
  if (e) {
    e->refs++;
    *out = &e->base;
  } else
    rc = registry_add(g, path, o, first, out);
  pthread_mutex_unlock(&registry_lock);
  return rc;
}

static void registry_remove(pg_env *e) {
  pg_env **p = &registry;
  while (*p != e) p = &(*p)->next;
  *p = e->next;
}

void pg_env_close(env *base) {
  pg_env *e = (pg_env *)base;
  pthread_mutex_lock(&registry_lock);
  bool last = --e->refs == 0;
  if (last) registry_remove(e);
  pthread_mutex_unlock(&registry_lock);
  if (!last) return;
  if (base->closing) base->closing(base);
  known_tell(e);
  free_env(e);
}

int pg_env_grant(env *base) {
  pg_env *e = (pg_env *)base;
  bool granted = false;
  int rc = schema_grant(&e->writer, &granted);
  if (rc || granted) return rc;
  return fail(RESPOOL_DENIED, "%.120s: this role may not make roles",
              e->url.shown);
}

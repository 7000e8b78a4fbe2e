/* SPDX-License-Identifier: MIT */
/*
 * The server engine's face at the seam.
 */
#include "postgres/postgres.h"

#include "postgres/apply.h"
#include "postgres/client/url.h"
#include "postgres/env/bells.h"
#include "postgres/env/open.h"
#include "postgres/look.h"
#include "postgres/maintain.h"

static int open(const char *path, const respool_options *o,
                int (*first)(env *e), env **e) {
  return pg_env_open(&engine_postgres, path, o, first, e);
}

static int wait(env *e, const char *queue, enum wait_for what, uint64_t *seen,
                int64_t ms) {
  return bells_wait(((pg_env *)e)->bells, queue, what, seen, ms);
}

bool postgres_is(const char *path) {
  return url_is(path);
}

const engine engine_postgres = {
  .gathers = true,
  .open = open,
  .close = pg_env_close,
  .apply = pg_apply,
  .look = pg_look,
  .wait = wait,
  .flush = pg_flush,
  .maintain = pg_maintain,
  .grant = pg_env_grant,
};

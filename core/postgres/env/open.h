/* SPDX-License-Identifier: MIT */
/*
 * Opening and closing of stores in databases, as the engine does.
 */
#ifndef POSTGRES_OPEN_H
#define POSTGRES_OPEN_H

#include "postgres/env/env.h"

int pg_env_open(const engine *g, const char *path, const respool_options *o,
                int (*first)(env *e), env **e);
void pg_env_close(env *e);

/* Makes the roles for applications; DENIED where it may not. */
int pg_env_grant(env *e);

#endif

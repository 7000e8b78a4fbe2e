/* SPDX-License-Identifier: MIT */
/*
 * The engine of stores in PostgreSQL. An item lies in a run, a row with
 * consecutive items; every verb is a call of functions of the schema, in sql/,
 * and a unit of verbs is one round trip and one transaction.
 *
 *   client/   libpq, a connection, a call that happens once
 *   record/   rows of runs, and the items in them
 *   env/      an open store: sessions, the schema, what is known of queues
 *   queue/    steps as requests, and what their answers mean
 *   queries/  what is in a store: items, dead letters, figures, flow
 */
#ifndef POSTGRES_H
#define POSTGRES_H

#include "engine.h"

extern const engine engine_postgres;

/* Does the path name a store in a database? */
bool postgres_is(const char *path);

#endif

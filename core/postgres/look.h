/* SPDX-License-Identifier: MIT */
/*
 * Queries, as the engine's look.
 */
#ifndef POSTGRES_LOOK_H
#define POSTGRES_LOOK_H

#include "engine.h"

int pg_look(env *e, query *q);

#endif

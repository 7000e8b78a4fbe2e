/* SPDX-License-Identifier: MIT */
/*
 * Queries: one read transaction each; see engine.h.
 */
#ifndef LMDB_LOOK_H
#define LMDB_LOOK_H

#include "engine.h"

int lmdb_look(env *e, query *q);

#endif

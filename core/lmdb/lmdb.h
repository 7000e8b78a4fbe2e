/* SPDX-License-Identifier: MIT */
/*
 * The embedded engine: a store is an LMDB environment in a directory, or in
 * memory.
 */
#ifndef LMDB_H
#define LMDB_H

#include "engine.h"

extern const engine engine_lmdb;

#endif

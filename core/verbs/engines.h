/* SPDX-License-Identifier: MIT */
/*
 * The engines that there are.
 */
#ifndef ENGINES_H
#define ENGINES_H

#include "engine.h"

/* The engine of the store at `path`. */
const engine *engine_of(const char *path);

#endif

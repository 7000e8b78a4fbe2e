/* SPDX-License-Identifier: MIT */
/*
 * A tiny engine for the specs: a store in the memory of its process, with
 * room for a few hundred small items. It has what pushes, takes, settles and
 * transactions need, and refuses the rest.
 */
#ifndef MEMORY_ENGINE_H
#define MEMORY_ENGINE_H

#include "engine.h"

extern const engine memory_engine;
extern int memory_fits; /* how often QUERY_FITS was asked */

#endif

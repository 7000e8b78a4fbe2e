/* SPDX-License-Identifier: MIT */
/*
 * Upkeep of the store as a whole, as the engine's maintain.
 */
#ifndef POSTGRES_MAINTAIN_H
#define POSTGRES_MAINTAIN_H

#include "engine.h"

int pg_maintain(env *e, respool_maintenance *out);

#endif

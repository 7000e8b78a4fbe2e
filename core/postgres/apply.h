/* SPDX-License-Identifier: MIT */
/*
 * Applying units, as the engine's apply and flush.
 */
#ifndef POSTGRES_APPLY_H
#define POSTGRES_APPLY_H

#include "engine.h"

void pg_apply(env *e, unit_list *group, unit_list *kept, unit_list *ended);
int pg_flush(env *e);

#endif

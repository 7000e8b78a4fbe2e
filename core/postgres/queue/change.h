/* SPDX-License-Identifier: MIT */
/*
 * Changes of one item by hand. All but one that is only made due are looked at
 * first, as what they become is made here; where another changes the item
 * meanwhile, they are looked at again.
 */
#ifndef POSTGRES_CHANGE_H
#define POSTGRES_CHANGE_H

#include "postgres/queue/plan.h"

int pg_change(pg_env *e, session *l, int64_t now, const char *name,
              change_req *r);

#endif

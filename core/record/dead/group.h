/* SPDX-License-Identifier: MIT */
/*
 * Dead letters counted by group and reason, as an engine hands them to the
 * verb: one packed array a group.
 */
#ifndef DEAD_GROUP_H
#define DEAD_GROUP_H

#include "record/failures.h"

/* Counts `n` dead letters that died at the same hour before now (0: the one
   that ends now), `newest` of them the last by number. */
void dead_group_add(respool_dead_group *g, uint64_t n, uint64_t newest,
                    int64_t hour);

/* Notes when a dead letter died. */
void dead_group_died(respool_dead_group *g, int64_t first, int64_t last);

void dead_group_pack(packer *out, const respool_dead_group *g);
respool_dead_group dead_group_unpack(unpacker *u);

#endif

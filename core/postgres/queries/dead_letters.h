/* SPDX-License-Identifier: MIT */
/*
 * Dead letters of a DLQ, one by one and counted by group and reason.
 */
#ifndef QUERIES_DEAD_LETTERS_H
#define QUERIES_DEAD_LETTERS_H

#include "postgres/queries/looking.h"

int look_dead_list(looking *k);
int look_dead_groups(looking *k);

#endif

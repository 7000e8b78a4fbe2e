/* SPDX-License-Identifier: MIT */
/*
 * The flow of a queue and of its partitions: holds, rates, breakers.
 */
#ifndef QUERIES_FLOW_H
#define QUERIES_FLOW_H

#include "postgres/queries/looking.h"

int look_flow(looking *k);
int look_partitions(looking *k);

#endif

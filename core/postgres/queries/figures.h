/* SPDX-License-Identifier: MIT */
/*
 * The figures of a queue and of the store.
 */
#ifndef QUERIES_FIGURES_H
#define QUERIES_FIGURES_H

#include "postgres/queries/looking.h"

int look_queue_stat(looking *k);
int look_store_stat(looking *k);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Finished items that are kept, and their results.
 */
#ifndef QUERIES_HISTORY_H
#define QUERIES_HISTORY_H

#include "postgres/queries/looking.h"

int look_history(looking *k);
int look_result(looking *k);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Figures that are more than a number: histograms, and counts by reason.
 */
#ifndef BINDING_FIGURES_H
#define BINDING_FIGURES_H

#include "compat.h"
#include "respool.h"

/* Adds to the table on the top the counts by reason of a queue's stats. */
void lstats_queue(lua_State *L, const respool_queue_stats *stats);

/* The same with its histograms. */
void lstats_times(lua_State *L, const respool_queue_stats *stats);

/* Pushes a table of a buffer's; `error` and `code` are there while its last
   flush was one that failed. */
void lstats_buffer(lua_State *L, const respool_buffer_stats *stats);

/* The same for a store's. */
void lstats_store(lua_State *L, const respool_store_stats *stats);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Figures that are more than a number: histograms, and counts by reason.
 */
#ifndef BINDING_FIGURES_H
#define BINDING_FIGURES_H

#include "compat.h"
#include "respool.h"

/* Adds to the table on the top what of a queue's stats is not a number. */
void lfigures_queue(lua_State *L, const respool_queue_stats *stats);

/* Adds `flushes`, RESPOOL_FLUSH_REASONS counts, to the table on the top. */
void lfigures_flushes(lua_State *L, const uint64_t *flushes);

/* The same for a store's. */
void lfigures_store(lua_State *L, const respool_store_stats *stats);

#endif

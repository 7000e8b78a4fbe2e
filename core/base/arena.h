/* SPDX-License-Identifier: MIT */
/*
 * An arena: memory that is allocated piece by piece and freed at once. Pieces
 * never move, so pointers into an arena stay valid until arena_free. Batches
 * and pages keep their items in one.
 */
#ifndef ARENA_H
#define ARENA_H

#include <stddef.h>

#include "respool.h"

typedef struct arena {
  struct chunk *chunks; /* newest first */
  struct chunk *spare;  /* of before arena_reset, to be used next, in order */
  char *at, *end;       /* what is left of the newest */
  size_t bytes;         /* of all chunks */
} arena;

void arena_init(arena *a);
void arena_free(arena *a); /* back to empty */

/* Back to empty, but the memory is kept for what is allocated next. */
void arena_reset(arena *a);

/* `n` bytes aligned for anything, uninitialised; NULL when out of memory. */
void *arena_alloc(arena *a, size_t n);

/* Copies `b`: 0 or RESPOOL_NOMEM. */
int arena_copy(arena *a, respool_bytes b, respool_bytes *copy);

#endif

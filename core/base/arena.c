/* SPDX-License-Identifier: MIT */
/*
 * The arena: a list of chunks that grow with use. A piece larger than what
 * a chunk would hold gets a chunk of its own size.
 */
#include "base/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_MIN ((size_t)2048)
#define CHUNK_MAX ((size_t)1 << 20)
#define ALIGN sizeof(max_align_t)

typedef struct chunk {
  struct chunk *next;
  size_t size;
} chunk;

#define HEAD ((sizeof(chunk) + ALIGN - 1) / ALIGN * ALIGN)

void arena_init(arena *a) {
  memset(a, 0, sizeof *a);
}

static void free_chunks(chunk *c) {
  while (c) {
    chunk *next = c->next;
    free(c);
    c = next;
  }
}

void arena_free(arena *a) {
  free_chunks(a->chunks);
  free_chunks(a->spare);
  arena_init(a);
}

void arena_reset(arena *a) {
  while (a->chunks) { /* the oldest comes first then */
    chunk *c = a->chunks;
    a->chunks = c->next;
    c->next = a->spare;
    a->spare = c;
  }
  a->at = a->end = NULL;
}

/* The next spare chunk with room for `n` bytes; those that are too small go, so
   that what is kept does not grow with each reset. */
static chunk *take_spare(arena *a, size_t n) {
  chunk *c;
  while ((c = a->spare)) {
    a->spare = c->next;
    if (c->size >= n + HEAD) return c;
    a->bytes -= c->size;
    free(c);
  }
  return NULL;
}

static chunk *new_chunk(arena *a, size_t n) {
  size_t size = a->chunks ? a->chunks->size * 2 : CHUNK_MIN;
  if (size > CHUNK_MAX) size = CHUNK_MAX;
  if (size < n + HEAD) size = n + HEAD;
  chunk *c = malloc(size);
  if (!c) return NULL;
  c->size = size;
  a->bytes += size;
  return c;
}

static int add_chunk(arena *a, size_t n) {
  chunk *c = take_spare(a, n);
  if (!c) c = new_chunk(a, n);
  if (!c) return RESPOOL_NOMEM;
  c->next = a->chunks;
  a->chunks = c;
  a->at = (char *)c + HEAD;
  a->end = (char *)c + c->size;
  return 0;
}

void *arena_alloc(arena *a, size_t n) {
  if (n > SIZE_MAX / 2) return NULL;
  n = (n + ALIGN - 1) / ALIGN * ALIGN;
  if ((size_t)(a->end - a->at) < n && add_chunk(a, n)) return NULL;
  void *p = a->at;
  a->at += n;
  return p;
}

int arena_copy(arena *a, respool_bytes b, respool_bytes *copy) {
  void *p = NULL;
  if (b.size) {
    p = arena_alloc(a, b.size);
    if (!p) return RESPOOL_NOMEM;
    memcpy(p, b.data, b.size);
  }
  *copy = (respool_bytes){p, b.size};
  return 0;
}

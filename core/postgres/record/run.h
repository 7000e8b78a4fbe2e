/* SPDX-License-Identifier: MIT */
/*
 * The bytes of a run: consecutive items in one row. An entry of 12 bytes for
 * each item,
 *
 *   where the item ends, from the beginning of the items   4 bytes
 *   XXH3-64 of the item, seeded with its id                8 bytes
 *
 * and then the items, packed as item.h has it. The seed binds an item to its
 * id: one under a wrong id is damaged. Of a run that was cut, either part can
 * be read: the first keeps its entries, whose ends count from where the items
 * of the uncut run began; the rest keeps all bytes and skips.
 */
#ifndef RUN_H
#define RUN_H

#include "record/item.h"

#define RUN_ITEMS 4096      /* at most; look.sql relies on it */
#define RUN_BYTES (64 << 10) /* of items, unless one is larger */
#define RUN_ENTRY 12

/* A run that is being made. */
typedef struct run_writer {
  packer table, items;
  uint64_t first;
  uint32_t n;
} run_writer;

void run_writer_init(run_writer *w);
void run_writer_free(run_writer *w);
void run_begin(run_writer *w, uint64_t first); /* memory kept */

/* Is there room for one more of so many bytes? */
bool run_has_room(const run_writer *w, size_t size);
void run_add(run_writer *w, respool_bytes packed);

/* The whole, borrowed until the next begin; 0 or NOMEM. */
int run_end(run_writer *w, respool_bytes *bytes);

/* A run that is being read. */
typedef struct run_reader {
  const uint8_t *table, *items;
  size_t size;    /* of the items */
  uint64_t first; /* id of entry `skip` */
  uint32_t n, skip, base;
} run_reader;

/* False: the bytes are no run of so many items. */
bool run_open(run_reader *r, respool_bytes bytes, uint64_t first, uint32_t n,
              uint32_t skip);

/* Item `i` of n, packed; false where it is damaged: `*packed` is then the
   bytes in its place, if any. */
bool run_item(const run_reader *r, uint32_t i, respool_bytes *packed);

/* Bits of a run's live items: the first is the highest bit of a byte. */
bool run_bit(const uint8_t *bits, uint32_t i);
void run_bit_set(uint8_t *bits, uint32_t i, bool on);

#endif

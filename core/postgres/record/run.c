/* SPDX-License-Identifier: MIT */
/*
 * Packing and reading of runs; see run.h.
 */
#include "postgres/record/run.h"

#include "base/hash.h"

void run_writer_init(run_writer *w) {
  packer_init(&w->table);
  packer_init(&w->items);
  w->n = 0;
}

void run_writer_free(run_writer *w) {
  packer_free(&w->table);
  packer_free(&w->items);
}

void run_begin(run_writer *w, uint64_t first) {
  packer_reset(&w->table);
  packer_reset(&w->items);
  w->first = first;
  w->n = 0;
}

bool run_has_room(const run_writer *w, size_t size) {
  return w->n == 0 ||
         (w->n < RUN_ITEMS && w->items.len + size <= RUN_BYTES);
}

static void write_be(uint8_t *at, uint64_t v, int width) {
  for (int i = width - 1; i >= 0; i--, v >>= 8) at[i] = (uint8_t)v;
}

static uint64_t read_be(const uint8_t *at, int width) {
  uint64_t v = 0;
  for (int i = 0; i < width; i++) v = v << 8 | at[i];
  return v;
}

static uint64_t sum_of(respool_bytes packed, uint64_t id) {
  return XXH3_64bits_withSeed(packed.data, packed.size, id);
}

void run_add(run_writer *w, respool_bytes packed) {
  pack_raw(&w->items, packed.data, packed.size);
  uint8_t *entry = packer_grow(&w->table, RUN_ENTRY);
  if (!entry) return;
  write_be(entry, w->items.len, 4);
  write_be(entry + 4, sum_of(packed, w->first + w->n), 8);
  w->n++;
}

int run_end(run_writer *w, respool_bytes *bytes) {
  pack_raw(&w->table, w->items.data, w->items.len);
  int rc = w->items.rc ? w->items.rc : w->table.rc;
  if (!rc) *bytes = (respool_bytes){w->table.data, w->table.len};
  return rc;
}

/* ---- reading ------------------------------------------------------------ */

static uint32_t end_of(const run_reader *r, uint32_t entry) {
  return (uint32_t)read_be(r->table + (size_t)entry * RUN_ENTRY, 4);
}

bool run_open(run_reader *r, respool_bytes bytes, uint64_t first, uint32_t n,
              uint32_t skip) {
  size_t total = (size_t)n + skip, head = total * RUN_ENTRY;
  if (n == 0 || bytes.size < head) return false;
  *r = (run_reader){.table = bytes.data, .first = first, .n = n,
                    .skip = skip, .size = bytes.size - head};
  r->items = r->table + head;
  uint32_t last = end_of(r, (uint32_t)total - 1);
  r->base = last - (uint32_t)r->size; /* where the first part was cut off */
  return last >= r->size;
}

bool run_item(const run_reader *r, uint32_t i, respool_bytes *packed) {
  uint32_t entry = r->skip + i;
  uint32_t from = entry ? end_of(r, entry - 1) : r->base;
  uint32_t to = end_of(r, entry);
  *packed = (respool_bytes){NULL, 0};
  if (i >= r->n || from < r->base || to < from || to - r->base > r->size)
    return false;
  *packed = (respool_bytes){r->items + (from - r->base), to - from};
  return read_be(r->table + (size_t)entry * RUN_ENTRY + 4, 8) ==
         sum_of(*packed, r->first + i);
}

bool run_bit(const uint8_t *bits, uint32_t i) {
  return bits[i / 8] >> (7 - i % 8) & 1;
}

void run_bit_set(uint8_t *bits, uint32_t i, bool on) {
  uint8_t bit = (uint8_t)(0x80 >> i % 8);
  bits[i / 8] = on ? bits[i / 8] | bit : bits[i / 8] & (uint8_t)~bit;
}

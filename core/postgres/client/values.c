/* SPDX-License-Identifier: MIT */
/*
 * Parameters and results in binary; see values.h. Numbers are big-endian. An
 * array is: dimensions, whether there are NULLs, type; length, lower bound;
 * then each element behind its length.
 */
#include "postgres/client/values.h"

#include <limits.h>
#include <string.h>

#define VALUE_MAX ((size_t)1 << 30) /* of one value, as PostgreSQL has it */
#define ARRAY_HEAD 20

void values_init(values *v) {
  memset(v, 0, sizeof *v);
  packer_init(&v->data);
}

void values_free(values *v) {
  packer_free(&v->data);
  values_init(v);
}

void values_reset(values *v) {
  packer_reset(&v->data);
  v->n = 0;
  v->rc = 0;
}

int values_end(values *v) {
  if (!v->rc) v->rc = v->data.rc;
  for (int i = 0; i < v->n && !v->rc; i++)
    if (v->inside[i]) v->at[i] = (const char *)v->data.data + v->offset[i];
  return v->rc;
}

static void put_be(packer *p, uint64_t n, int width) {
  uint8_t *b = packer_grow(p, (size_t)width);
  for (int i = width - 1; b && i >= 0; i--, n >>= 8) b[i] = (uint8_t)n;
}

static uint64_t read_be(const void *from, size_t width) {
  const uint8_t *b = from;
  uint64_t n = 0;
  for (size_t i = 0; i < width; i++) n = n << 8 | b[i];
  return n;
}

static void add(values *v, const void *at, size_t length, bool inside) {
  if (length > VALUE_MAX) v->rc = RESPOOL_TOO_LARGE;
  if (v->rc) return;
  int i = v->n++;
  v->at[i] = at;
  v->offset[i] = inside ? v->data.len - length : 0;
  v->inside[i] = inside;
  v->length[i] = (int)length;
  v->format[i] = 1;
}

static void put_number(values *v, uint64_t n, int width) {
  put_be(&v->data, n, width);
  if (!v->data.rc) add(v, NULL, (size_t)width, true);
}

void put_null(values *v) {
  add(v, NULL, 0, false);
}

void put_bool(values *v, bool b) {
  put_number(v, b, 1);
}

void put_int2(values *v, int n) {
  put_number(v, (uint64_t)n, 2);
}

void put_int4(values *v, int64_t n) {
  put_number(v, (uint64_t)(n > INT_MAX ? INT_MAX : n), 4);
}

void put_int8(values *v, int64_t n) {
  put_number(v, (uint64_t)n, 8);
}

void put_limit(values *v, int64_t n) {
  if (n == RESPOOL_UNLIMITED)
    put_null(v);
  else
    put_int8(v, n);
}

void put_text(values *v, const char *s) {
  add(v, s, s ? strlen(s) : 0, false);
}

void put_bytes(values *v, respool_bytes b) {
  add(v, b.data, b.size, false);
}

void put_uuid(values *v, const uint8_t id[16]) {
  add(v, id, id ? 16 : 0, false);
}

void put_ready(values *v, const uint8_t *data, int n) {
  add(v, data, (size_t)n, false);
}

void array_begin(values *v, uint32_t type, size_t n) {
  v->array = v->data.len;
  put_be(&v->data, 1, 4);
  put_be(&v->data, 1, 4);
  put_be(&v->data, type, 4);
  put_be(&v->data, n, 4);
  put_be(&v->data, 1, 4);
}

void array_end(values *v) {
  if (!v->data.rc) add(v, NULL, v->data.len - v->array, true);
}

void add_null(values *v) {
  put_be(&v->data, UINT32_MAX, 4);
}

static void add_number(values *v, uint64_t n, int width) {
  put_be(&v->data, (uint64_t)width, 4);
  put_be(&v->data, n, width);
}

void add_int4(values *v, int64_t n) {
  add_number(v, (uint64_t)(n > INT_MAX ? INT_MAX : n), 4);
}

void add_int8(values *v, int64_t n) {
  add_number(v, (uint64_t)n, 8);
}

void add_bytes(values *v, respool_bytes b) {
  if (!b.data) {
    add_null(v);
    return;
  }
  put_be(&v->data, b.size, 4);
  pack_raw(&v->data, b.data, b.size);
}

void add_bits(values *v, const uint8_t *bits, uint32_t n) {
  size_t size = (n + 7) / 8;
  put_be(&v->data, 4 + size, 4);
  put_be(&v->data, n, 4);
  pack_raw(&v->data, bits, size);
}

/* ---- results ------------------------------------------------------------ */

bool value_null(const PGresult *r, int row, int column) {
  return pq.getisnull(r, row, column);
}

int64_t value_int(const PGresult *r, int row, int column) {
  size_t width = (size_t)pq.getlength(r, row, column);
  uint64_t n = read_be(pq.getvalue(r, row, column), width);
  if (width == 2) return (int16_t)n;
  return width == 4 ? (int32_t)n : (int64_t)n;
}

bool value_bool(const PGresult *r, int row, int column) {
  return value_int(r, row, column) != 0;
}

respool_bytes value_bytes(const PGresult *r, int row, int column) {
  if (value_null(r, row, column)) return (respool_bytes){NULL, 0};
  return (respool_bytes){pq.getvalue(r, row, column),
                         (size_t)pq.getlength(r, row, column)};
}

size_t value_count(const PGresult *r, int row, int column) {
  respool_bytes b = value_bytes(r, row, column);
  if (b.size < ARRAY_HEAD) return 0; /* NULL, or of no dimension */
  return (size_t)read_be((const uint8_t *)b.data + 12, 4);
}

int64_t value_element(const PGresult *r, int row, int column, size_t i) {
  respool_bytes b = value_bytes(r, row, column);
  size_t at = ARRAY_HEAD + i * 12 + 4;
  if (at + 8 > b.size) return 0;
  return (int64_t)read_be((const uint8_t *)b.data + at, 8);
}

respool_bytes value_part(const PGresult *r, int row, int column, size_t i) {
  respool_bytes b = value_bytes(r, row, column);
  const uint8_t *at = b.data;
  for (size_t from = ARRAY_HEAD; b.size >= from + 4; i--) {
    uint64_t size = read_be(at + from, 4);
    bool null = size == UINT32_MAX;
    from += 4;
    if (null) size = 0;
    if (size > b.size - from) break;
    if (!i) return (respool_bytes){null ? NULL : at + from, (size_t)size};
    from += size;
  }
  return (respool_bytes){NULL, 0};
}

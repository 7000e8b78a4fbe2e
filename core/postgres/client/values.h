/* SPDX-License-Identifier: MIT */
/*
 * Values on their way to the server and back, all in PostgreSQL's binary
 * form. A `values` is the list of one statement's parameters, built from the
 * first to the last; it has a sticky error, looked at once, at the end. Bytes
 * of single values are borrowed until it is sent, those of arrays copied.
 */
#ifndef VALUES_H
#define VALUES_H

#include "cbor/packer.h"
#include "postgres/client/libpq.h"

#define VALUES_MAX 40

typedef struct values {
  packer data;             /* numbers and arrays */
  int n;
  const char *at[VALUES_MAX]; /* NULL: SQL's NULL */
  size_t offset[VALUES_MAX];  /* into data where `inside` */
  bool inside[VALUES_MAX];
  int length[VALUES_MAX];
  int format[VALUES_MAX];     /* 1: binary */
  size_t array;               /* where the open array begins */
  int rc;                     /* 0, NOMEM or TOO_LARGE */
} values;

void values_init(values *v);
void values_free(values *v);
void values_reset(values *v); /* empty, memory kept */

/* Makes `at` point to all values; 0 or the sticky error. */
int values_end(values *v);

void put_null(values *v);
void put_bool(values *v, bool b);
void put_int2(values *v, int n);
void put_int4(values *v, int64_t n);
void put_int8(values *v, int64_t n);
void put_limit(values *v, int64_t n); /* NULL where it is UNLIMITED */
void put_text(values *v, const char *s); /* NULL: NULL */
void put_bytes(values *v, respool_bytes b); /* NULL where data is NULL */
void put_uuid(values *v, const uint8_t id[16]); /* NULL: NULL */
void put_ready(values *v, const uint8_t *data, int n); /* in binary, borrowed */

/* Arrays: begin with the type of the elements, add exactly `n`. */
enum { TYPE_BYTEA = 17, TYPE_INT8 = 20, TYPE_INT2 = 21, TYPE_INT4 = 23,
       TYPE_TEXT = 25, TYPE_VARBIT = 1562 };
void array_begin(values *v, uint32_t type, size_t n);
void add_null(values *v);
void add_int4(values *v, int64_t n);
void add_int8(values *v, int64_t n);
void add_bytes(values *v, respool_bytes b);
void add_bits(values *v, const uint8_t *bits, uint32_t n); /* first bit
                                                    highest in its byte */
void array_end(values *v);

/* Reading a result. A NULL reads as 0 or as empty; `value_null` tells. */
bool value_null(const PGresult *r, int row, int column);
bool value_bool(const PGresult *r, int row, int column);
int64_t value_int(const PGresult *r, int row, int column); /* of any width */
respool_bytes value_bytes(const PGresult *r, int row, int column);

/* An array of int8 without NULLs: how many, and one by one. */
size_t value_count(const PGresult *r, int row, int column);
int64_t value_element(const PGresult *r, int row, int column, size_t i);

/* The `i`-th of an array of bytea; no data where it is NULL or missing. */
respool_bytes value_part(const PGresult *r, int row, int column, size_t i);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Structs of the core as Lua tables and back, field by field from a layout.
 * A time or span is milliseconds in the core and seconds in Lua; a limit
 * that is none is math.huge.
 */
#ifndef BINDING_RECORD_H
#define BINDING_RECORD_H

#include <stddef.h>

#include "compat.h"
#include "respool.h"

enum record_kind {
  RECORD_COUNT, /* uint64_t */
  RECORD_LIMIT, /* int64_t, UNLIMITED is math.huge */
  RECORD_SPAN,  /* int64_t ms, UNLIMITED is math.huge */
  RECORD_TIME,  /* int64_t ms since 1970, 0 is nil */
  RECORD_INT,   /* int */
  RECORD_UINT,  /* unsigned */
  RECORD_FLAG,  /* int, a boolean */
  RECORD_BYTES, /* respool_bytes, empty is nil; pushed only */
  RECORD_TEXT,  /* const char *, borrowed from the table; read only */
  RECORD_NAME   /* char[RESPOOL_NAME_MAX + 1] */
};

typedef struct record_field {
  const char *name;
  size_t at; /* offset in the struct */
  enum record_kind kind;
} record_field;

#define RECORD(type, field, kind) \
  { #field, offsetof(type, field), RECORD_##kind }
#define RECORD_END { NULL, 0, 0 }

/* Pushes the field's value. */
void lrecord_push_field(lua_State *L, const record_field *f,
                        const void *record);

/* Pushes a table of all fields. */
void lrecord_push(lua_State *L, const record_field *layout,
                  const void *record);

/* Reads what is there in the table at `index`; nil leaves a field as it
   is. Numbers out of a field's range raise. */
void lrecord_read(lua_State *L, int index, const record_field *layout,
                  void *record);

/* The number at `index` as one of the core's: KEEP for nil, UNLIMITED for
   math.huge; milliseconds for seconds. */
int64_t lrecord_limit(lua_State *L, int index);
int64_t lrecord_span(lua_State *L, int index);
int64_t lrecord_span_or_zero(lua_State *L, int index); /* 0 for nil */

/* Seconds for milliseconds, math.huge for UNLIMITED. */
void lrecord_push_span(lua_State *L, int64_t ms);

/* An id or count: an integer where Lua has such. */
void lrecord_push_count(lua_State *L, uint64_t n);

/* The DLQ and the number of a noted dead letter; nothing if there is none.
   Returns how many values it pushed. */
int lrecord_push_notice(lua_State *L, const respool_notice *n);

/* A number that counts something at `index`. */
uint64_t lrecord_count(lua_State *L, int index);

#endif

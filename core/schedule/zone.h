/* SPDX-License-Identifier: MIT */
/*
 * A time zone of the system's tz database: TZif files (RFC 8536), read from
 * $TZDIR or /usr/share/zoneinfo. It does not touch the process's own zone, so
 * that any thread may use any zone.
 */
#ifndef ZONE_H
#define ZONE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct zone zone;

/* "UTC" needs no database. Every other name is relative to the database, such
   as "Europe/Berlin". INVALID names `what` if there is no such zone; IO,
   CORRUPT, NOMEM. The caller frees it. */
int zone_load(const char *what, const char *name, zone **out);
void zone_free(zone *z);

/* A stretch of time with one offset. */
typedef struct zone_span {
  int64_t from, to;       /* seconds since 1970, UTC; `to` is the next's */
  int32_t offset, before; /* seconds east of UTC: here, and before `from` */
} zone_span;

/* The stretch that `at` lies in. INT64_MIN and INT64_MAX where there is no
   change before or after it. */
zone_span zone_at(const zone *z, int64_t at);

#endif

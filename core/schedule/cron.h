/* SPDX-License-Identifier: MIT */
/*
 * Cron expressions: five fields (minute, hour, day of the month, month, day of
 * the week), of lists, ranges and steps, as in crontab(5); months and weekdays
 * by their English names too; 0 and 7 are Sunday. Or one of @hourly, @daily,
 * @midnight, @weekly, @monthly, @yearly, @annually.
 *
 * A day matches either of its fields where both leave days out.
 *
 * When a zone's clock is set forward, an expression whose hours leave some
 * out is due at the change if it was due in the hour that is missing. When it
 * is set back, such an expression is due only the first time; one of every
 * hour is due whenever its minute comes.
 */
#ifndef CRON_H
#define CRON_H

#include <stdbool.h>
#include <stdint.h>

#include "schedule/zone.h"

typedef struct cron {
  uint64_t minutes;                /* bit n: minute n */
  uint32_t hours, days, months, weekdays;
  bool any_day, any_weekday, every_hour;
} cron;

/* Reads an expression. INVALID names the field and what it may hold, or says
   that no such day exists. */
int cron_parse(cron *c, const char *expression);

/* The first moment after `after` at which it is due; both in milliseconds
   since 1970, UTC. INT64_MAX if there is none. */
int64_t cron_next(const cron *c, const zone *z, int64_t after);

#endif

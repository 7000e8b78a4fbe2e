/* SPDX-License-Identifier: MIT */
/*
 * The times of a schedule: when its next tick is, and which ticks are due.
 */
#ifndef SCHEDULE_TIMES_H
#define SCHEDULE_TIMES_H

#include "schedule/cron.h"
#include "verbs/produce/schedule_record.h"

typedef struct times {
  cron cron;
  zone *zone;
} times;

/* Reads the expression and the zone of a schedule; the zone is the caller's. */
int times_of(const respool_schedule *d, times *t);

/* The first tick after a time; 0: there is none. */
int64_t next_tick(const times *t, int64_t after);

/* What is to be done at `now`: which tick is due, how many were late, when the
   next one is. */
int tick_plan(const stored_schedule *s, int64_t now, respool_tick *out);

#endif

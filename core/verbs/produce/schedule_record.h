/* SPDX-License-Identifier: MIT */
/*
 * A schedule as its entry keeps it: an array of its fields.
 */
#ifndef SCHEDULE_RECORD_H
#define SCHEDULE_RECORD_H

#include "record/fields.h"

/* The pointers of `d` lead to the texts beside it, and for the payload to what
   was unpacked. */
typedef struct stored_schedule {
  respool_schedule d;
  uint64_t revision;
  char name[RESPOOL_NAME_MAX + 1];
  char cron[RESPOOL_NAME_MAX + 1];
  char timezone[RESPOOL_NAME_MAX + 1];
  char queue[RESPOOL_NAME_MAX + 1];
} stored_schedule;

void schedule_pack(packer *p, const respool_schedule *d);

/* The next of [name, revision, bytes] as a query gives them; false at the end,
   and with u->rc set where it is damaged. */
bool schedule_unpack(unpacker *u, stored_schedule *out);

/* Are they the same, but for what the library counts? */
bool schedule_same(const respool_schedule *a, const respool_schedule *b);
bool schedule_same_times(const respool_schedule *a, const respool_schedule *b);

#endif

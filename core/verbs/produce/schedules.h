/* SPDX-License-Identifier: MIT */
/*
 * Stored schedules: reading and saving them.
 */
#ifndef SCHEDULES_H
#define SCHEDULES_H

#include "verbs/produce/schedule_record.h"
#include "verbs/store/store.h"

/* Entries as they were looked at. */
typedef struct schedules {
  packer bytes;
  unpacker at;
  int64_t now;
} schedules;

/* Reads the schedule of this name, or all of them, to be unpacked from `at`;
   `bytes` is to be freed, also after an error. */
int schedules_look(respool *s, const char *name, schedules *l);

/* Reads one; NOT_FOUND: there is none. */
int schedule_find(respool *s, const char *name, schedules *l,
                  stored_schedule *out);

/* CORRUPT, with its name. */
int schedule_damaged(const stored_schedule *d);

/* Saves it, unless another process has saved it since it was read: LOCKED. */
int schedule_save(respool *s, const stored_schedule *d);

/* The step of that, for a unit; `p` has the packed record. */
step schedule_step(const stored_schedule *s, const packer *p);

#endif

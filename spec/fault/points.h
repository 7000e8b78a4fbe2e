/* SPDX-License-Identifier: MIT */
/*
 * The points at which a process may be killed: those in the core, and calls
 * of LMDB and libpq.
 */
#ifndef FAULT_POINTS_H
#define FAULT_POINTS_H

#include <stdatomic.h>
#include <stdbool.h>

enum { POINT_RAN = 1, POINT_RANDOM = 22, POINTS };

typedef struct point_at {
  const char *name;
  int passes; /* by a process that is armed for it, at most */
} point_at;

/* NULL: POINT_RANDOM, which is none. */
const char *point_name(int point);

/* Is it passed only while a store is made? */
bool point_once(int point);

/* This process will be killed there, after it has passed so many times. */
void point_arm(int point, int passes);
void point_arm_name(const char *name, int passes);

/* Its death there is counted. */
void point_count(_Atomic long *deaths);

/* There it stops, until it is continued. */
void point_stop(const char *name, int passes);

/* From now on a rule is broken; NULL: none. */
void point_break(const char *rule);

#endif

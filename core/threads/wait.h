/* SPDX-License-Identifier: MIT */
/*
 * Waiting for other processes, which may be stopped and never get on. A wait
 * asks every WAIT_STEP milliseconds whether it is to go on: the thread's
 * function (respool_on_wait) and its limit decide.
 */
#ifndef WAIT_H
#define WAIT_H

#include <stdbool.h>
#include <stdint.h>

#define WAIT_STEP 100 /* ms */

enum { WHOM_MAX = 64 };

/* The name of a process that is waited for, "process 4711 (lua5.4)"; pid 0 or
   less: not known. */
void wait_name(int pid, char whom[WHOM_MAX]);

/* Limits the waits of this thread from now on; 0 is none. */
void wait_limit(int64_t ms);

/* A call begins that may wait. */
void wait_begin(void);

/* Asks after `ms` of waiting for `whom`. */
bool wait_goes_on(int64_t ms, const char *whom);

/* The same of work of one's own that may take long, which no limit ends. */
bool wait_tell(int64_t ms, const char *what);

/* Says that the wait for `whom` was given up, and returns LOCKED. `path` of
   the store may be NULL. */
int wait_fail(const char *path, const char *whom);

#endif

/* SPDX-License-Identifier: MIT */
/*
 * Points at which a test may end the process, and rules that a test may have
 * broken, in a build with RESPOOL_FAULTS; the test program defines what happens
 * there. In other builds they are empty.
 */
#ifndef FAULT_H
#define FAULT_H

#include <stdbool.h>

void fault_point(const char *name); /* the test program's */
bool fault_wrong(const char *rule); /* is this rule to be broken? */

#ifdef RESPOOL_FAULTS
#define FAULT_POINT(name) fault_point(name)
#define FAULT_WRONG(rule) fault_wrong(rule)
#else
#define FAULT_POINT(name) ((void)0)
#define FAULT_WRONG(rule) false
#endif

#endif

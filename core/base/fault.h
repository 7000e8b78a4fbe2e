/* SPDX-License-Identifier: MIT */
/*
 * Points at which a test may end the process, in a build with RESPOOL_FAULTS;
 * the test program defines what happens there. In other builds they are empty.
 */
#ifndef FAULT_H
#define FAULT_H

void fault_point(const char *name); /* the test program's */

#ifdef RESPOOL_FAULTS
#define FAULT_POINT(name) fault_point(name)
#else
#define FAULT_POINT(name) ((void)0)
#endif

#endif

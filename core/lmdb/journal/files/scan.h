/* SPDX-License-Identifier: MIT */
/*
 * Reading the log from a position on: to build the block when the store is
 * opened, to repair it when a process died inside it, and for those who look
 * without one.
 */
#ifndef JOURNAL_SCAN_H
#define JOURNAL_SCAN_H

#include "lmdb/journal/files/slots.h"

/* Builds items, rows and the end of the log in `c` from the file. */
int scan_build(control *c, int fd, point from, uint64_t limit);

/* By the first to open. */
int scan_first(journal *j, point from);

/* With the state lock, whose holder died: the same up to the tail. */
int scan_repair(journal *j);

#endif
